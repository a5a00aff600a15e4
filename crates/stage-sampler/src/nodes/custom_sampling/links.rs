//! What SAMPLER, SIGMAS and NOISE links carry: small recipes, never tensors.

use crate::error;
use comfy_diffusion::sampling::{Sampler, SamplerOptions, find_sampler};
use comfy_stage::{Data, Inputs, NodeError};
use serde::{Deserialize, Serialize};

/// The content of such a link; the tag keeps one kind from being taken for another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "link", rename_all = "snake_case")]
enum Link {
    Sampler { name: String, options: Box<SamplerOptions> },
    Sigmas { levels: Vec<f64> },
    Noise { seed: Option<u64> },
}

impl Link {
    fn read(inputs: &Inputs, name: &str) -> Result<Self, NodeError> {
        Self::deserialize(inputs.recipe(name)?)
            .map_err(|error| NodeError::invalid(format!("input `{name}` cannot be read: {error}")))
    }

    fn data(&self) -> Data {
        Data::Recipe(serde_json::to_value(self).expect("a link is plain JSON"))
    }
}

fn wrong(name: &str, expected: &str) -> NodeError {
    NodeError::invalid(format!("input `{name}` does not carry {expected}"))
}

/// Says which sampler to use and what to tell it.
///
/// # Errors
/// When there is no such sampler or an option cannot be used.
pub(super) fn sampler(name: &str, options: SamplerOptions) -> Result<Data, NodeError> {
    find_sampler(name).map_err(error::sampling)?;
    options.validate().map_err(error::sampling)?;
    Ok(Link::Sampler { name: name.into(), options: Box::new(options) }.data())
}

pub(super) fn read_sampler(
    inputs: &Inputs,
    name: &str,
) -> Result<(&'static Sampler, SamplerOptions), NodeError> {
    match Link::read(inputs, name)? {
        Link::Sampler { name, options } => Ok((find_sampler(&name).map_err(error::sampling)?, *options)),
        _ => Err(wrong(name, "a sampler")),
    }
}

/// Hands noise levels over, as the f32 numbers that samplers work with.
pub(super) fn sigmas(levels: Vec<f64>) -> Data {
    Link::Sigmas { levels: levels.into_iter().map(|level| f64::from(level as f32)).collect() }.data()
}

pub(super) fn read_sigmas(inputs: &Inputs, name: &str) -> Result<Vec<f64>, NodeError> {
    match Link::read(inputs, name)? {
        // Text may have moved the last bit of a double, but not of a float.
        Link::Sigmas { levels } => Ok(levels.into_iter().map(|level| f64::from(level as f32)).collect()),
        _ => Err(wrong(name, "noise levels")),
    }
}

/// Says where noise comes from; without a seed there is none.
pub(super) fn noise(seed: Option<u64>) -> Data {
    Link::Noise { seed }.data()
}

pub(super) fn read_noise(inputs: &Inputs, name: &str) -> Result<Option<u64>, NodeError> {
    match Link::read(inputs, name)? {
        Link::Noise { seed } => Ok(seed),
        _ => Err(wrong(name, "noise")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use comfy_diffusion::sampling::{NoiseScale, StepControl};

    /// As a value goes from stage to stage: through text.
    fn through_text(data: Data) -> Inputs {
        let Data::Recipe(recipe) = data else { panic!("links are recipes") };
        let recipe = serde_json::from_str(&recipe.to_string()).unwrap();
        Inputs::new([("it".to_owned(), Data::Recipe(recipe))])
    }

    #[test]
    fn links_survive_their_text() {
        let levels: Vec<f64> =
            (0..200).map(|i| f64::from(14.61_f32 * 0.93f32.powi(i))).chain([0.0]).collect();
        assert_eq!(read_sigmas(&through_text(sigmas(levels.clone())), "it").unwrap(), levels);
        assert_eq!(read_noise(&through_text(noise(Some(u64::MAX))), "it").unwrap(), Some(u64::MAX));
        assert_eq!(read_noise(&through_text(noise(None)), "it").unwrap(), None);
        let options = SamplerOptions {
            order: Some(2),
            noise_scale: NoiseScale::ReverseTime { eta: 0.5 },
            step_control: StepControl { integral: 0.5, ..StepControl::default() },
            ..SamplerOptions::noisy(0.25, 1.0)
        };
        let inputs = through_text(sampler("er_sde", options.clone()).unwrap());
        let (sampler, read) = read_sampler(&inputs, "it").unwrap();
        assert_eq!((sampler.name, read), ("er_sde", options));
    }

    #[test]
    fn mixed_up_links_are_refused() {
        let inputs = through_text(noise(None));
        assert!(read_sigmas(&inputs, "it").unwrap_err().message.contains("noise levels"));
        assert!(read_sampler(&inputs, "it").unwrap_err().message.contains("a sampler"));
        assert!(read_noise(&through_text(sigmas(vec![])), "it").unwrap_err().message.contains("noise"));
        let model = Inputs::new([("it".to_owned(), Data::Recipe(serde_json::json!({"part": "model"})))]);
        assert!(read_noise(&model, "it").is_err());
        assert!(sampler("eulr", SamplerOptions::default()).is_err());
        assert!(sampler("euler", SamplerOptions::noisy(f64::NAN, 1.0)).is_err());
    }
}
