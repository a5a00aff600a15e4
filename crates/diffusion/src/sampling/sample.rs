//! One sampler node's work: from a latent on a link to the sampled latent.

use candle_core::{DType, Tensor};

use super::after_guidance::AfterGuidance;
use super::denoiser::{Denoiser, SampleCtx, StepInfo};
use super::error::{Result, SamplingError};
use super::guidance::{CfgDenoiser, ConditioningEntry};
use super::guidance_formulas::BeforeGuidance;
use super::inpaint::InpaintDenoiser;
use super::network_calls::NoisePredictor;
use super::noise::prepare_noise;
use super::options::SamplerOptions;
use super::prediction::Prediction;
use super::rules::GuidanceRule;
use super::samplers::{Levels, Sampler, find_sampler};
use super::schedule::NoiseSchedule;
use super::schedulers::{Scheduler, find_scheduler};
use super::sigmas::MAX_STEPS;

/// The model part of a checkpoint, as far as sampling needs it.
pub struct SamplingModel<'a> {
    pub predictor: &'a dyn NoisePredictor,
    pub schedule: &'a NoiseSchedule,
    /// Factor between the latent on a link and the one the network works on.
    pub latent_scale: f64,
    /// What the network's output means.
    pub prediction: Prediction,
    /// Share of every guided estimate that is brought back to the deviation of the positive one.
    pub rescale_cfg: Option<f64>,
    /// Share by which a noise mask turns from soft to a hard edge that moves with the noise level.
    pub differential: Option<f64>,
    /// What is done to every guided estimate, in this order.
    pub after_guidance: &'a [AfterGuidance],
    /// What is done to both estimates before they are joined, in this order.
    pub before_guidance: &'a [BeforeGuidance],
}

impl<'a> SamplingModel<'a> {
    /// A model that predicts noise, without changes to how it is sampled.
    pub fn new(predictor: &'a dyn NoisePredictor, schedule: &'a NoiseSchedule, latent_scale: f64) -> Self {
        let prediction = Prediction::default();
        Self {
            predictor,
            schedule,
            latent_scale,
            prediction,
            rescale_cfg: None,
            differential: None,
            after_guidance: &[],
            before_guidance: &[],
        }
    }

    /// Guides the model by a rule, away from the last side.
    ///
    /// # Errors
    /// Fails on an entry that cannot be used, and unless there are as many sides as the rule joins.
    pub fn guide(&self, sides: &[&'a [ConditioningEntry]], rule: GuidanceRule) -> Result<CfgDenoiser<'a>> {
        let guide = CfgDenoiser::with_rule(self.predictor, self.schedule, sides, rule)?;
        Ok(guide
            .prediction(self.prediction)
            .rescale(self.rescale_cfg)
            .before(self.before_guidance)
            .after(self.after_guidance))
    }
}

/// What a sampler runs on when levels, noise and guide are chosen apart.
#[derive(Debug, Clone)]
pub struct CustomRequest<'a> {
    /// The latent on the link, `[B,C,h,w]`: not yet in the network's scale.
    pub latent: &'a Tensor,
    /// Where to sample (1) and where to keep the latent (0): `[h,w]`, `[B,h,w]` or `[B,1,h,w]` of any size.
    pub noise_mask: Option<&'a Tensor>,
    /// Unit noise of the latent's shape.
    pub noise: &'a Tensor,
    /// Seed of the noise that samplers draw on the way.
    pub seed: u64,
    pub sampler: &'a Sampler,
    pub options: SamplerOptions,
    /// Noise levels, falling.
    pub sigmas: &'a [f64],
}

/// Everything a sampler node is given.
#[derive(Debug, Clone)]
pub struct SampleRequest<'a> {
    /// The latent on the link, `[B,C,h,w]`: not yet in the network's scale.
    pub latent: &'a Tensor,
    /// Where to sample (1) and where to keep the latent (0): `[h,w]`, `[B,h,w]` or `[B,1,h,w]` of any size.
    pub noise_mask: Option<&'a Tensor>,
    /// The place each sample had in its original batch, which decides its noise.
    pub batch_index: Option<&'a [usize]>,
    pub positive: &'a [ConditioningEntry],
    pub negative: &'a [ConditioningEntry],
    pub seed: u64,
    pub steps: usize,
    pub cfg: f64,
    pub sampler: &'a str,
    pub scheduler: &'a str,
    /// Share of the noise to add and remove, 0..=1.
    pub denoise: f64,
    /// First step to run; all before it count as done.
    pub start_step: Option<usize>,
    /// Step to stop before, leaving noise in the latent unless `force_full_denoise` is set.
    pub end_step: Option<usize>,
    pub add_noise: bool,
    /// Removes all noise in the last step run.
    pub force_full_denoise: bool,
}

impl<'a> SampleRequest<'a> {
    /// Builds a request for a whole run with fresh noise.
    pub fn new(
        latent: &'a Tensor,
        positive: &'a [ConditioningEntry],
        negative: &'a [ConditioningEntry],
    ) -> Self {
        Self {
            latent,
            noise_mask: None,
            batch_index: None,
            positive,
            negative,
            seed: 0,
            steps: 20,
            cfg: 8.0,
            sampler: "euler",
            scheduler: "normal",
            denoise: 1.0,
            start_step: None,
            end_step: None,
            add_noise: true,
            force_full_denoise: false,
        }
    }
}

/// Who hears of a run's progress and who may stop it.
#[derive(Default)]
pub struct Hooks<'a> {
    pub on_step: Option<&'a mut dyn FnMut(&StepInfo<'_>)>,
    pub cancelled: Option<&'a dyn Fn() -> bool>,
}

/// Returns the noise levels of a run.
///
/// With `denoise` below 1 a longer schedule is made and only its last `steps` steps are kept.
///
/// # Errors
/// Fails on a number of steps or a `denoise` that gives no schedule.
pub fn run_sigmas(
    schedule: &NoiseSchedule,
    scheduler: &Scheduler,
    sampler: &Sampler,
    steps: usize,
    denoise: f64,
) -> Result<Vec<f64>> {
    if steps == 0 {
        return Err(SamplingError::invalid("steps", "at least one step is needed"));
    }
    if denoise.is_nan() {
        return Err(SamplingError::invalid("denoise", "not a number"));
    }
    if denoise <= 0.0 {
        return Ok(Vec::new());
    }
    let planned = if denoise > 0.9999 { steps } else { (steps as f64 / denoise) as usize };
    if planned > MAX_STEPS {
        let reason = format!("{planned} planned steps are more than {MAX_STEPS}");
        return Err(SamplingError::invalid("steps", reason));
    }
    let extra = usize::from(sampler.levels == Levels::WithoutPenultimate);
    let mut sigmas = (scheduler.sigmas)(schedule, planned + extra);
    if !sigmas.iter().all(|s| s.is_finite()) {
        let reason = format!("`{}` has no noise levels for {planned} steps", scheduler.name);
        return Err(SamplingError::invalid("scheduler", reason));
    }
    if extra == 1 && sigmas.len() > 1 {
        sigmas.remove(sigmas.len() - 2);
    }
    if planned != steps || denoise <= 0.9999 {
        sigmas.drain(..sigmas.len().saturating_sub(steps + 1));
    }
    Ok(sigmas)
}

/// Cuts a run's levels to the part between two steps; empty if nothing is left to do.
fn cut(mut sigmas: Vec<f64>, request: &SampleRequest<'_>) -> Vec<f64> {
    if let Some(end) = request.end_step.filter(|end| end + 1 < sigmas.len()) {
        sigmas.truncate(end + 1);
        if let Some(last) = sigmas.last_mut().filter(|_| request.force_full_denoise) {
            *last = 0.0;
        }
    }
    if let Some(start) = request.start_step {
        if start + 1 >= sigmas.len() {
            return Vec::new();
        }
        sigmas.drain(..start);
    }
    sigmas
}

/// Puts the latent at the first noise level of a run.
///
/// At the model's highest level the noise is scaled so that the sum has the variance the model was trained on, which
/// counts the latent's own variance as 1.
pub(super) fn scale_noise(
    schedule: &NoiseSchedule,
    noise: &Tensor,
    latent: &Tensor,
    sigma: f64,
) -> Result<Tensor> {
    let highest = f64::from(schedule.sigma_max());
    let at_highest = sigma > highest || (sigma - highest).abs() <= 1e-5 * sigma.max(highest);
    let level = if at_highest { (1.0 + sigma * sigma).sqrt() } else { sigma };
    Ok((noise.affine(level, 0.0)? + latent)?)
}

/// Runs a sampler node.
///
/// # Shapes
/// Returns a latent of the request's shape, on the link's scale and in f32.
///
/// # Errors
/// Fails on names and figures that cannot be used, if the network fails, or if the run was cancelled.
pub fn sample(model: &SamplingModel<'_>, request: &SampleRequest<'_>, hooks: Hooks<'_>) -> Result<Tensor> {
    let sampler = find_sampler(request.sampler)?;
    let scheduler = find_scheduler(request.scheduler)?;
    let link = check_latent(request.latent)?;
    let sigmas = run_sigmas(model.schedule, scheduler, sampler, request.steps, request.denoise)?;
    let sigmas = cut(sigmas, request);
    if sigmas.len() < 2 {
        return Ok(link);
    }
    let rule = GuidanceRule::Single { cfg: request.cfg };
    let guide = model.guide(&[request.positive, request.negative], rule)?;
    let noise = match request.add_noise {
        true => prepare_noise(&link, request.seed, request.batch_index)?,
        false => link.zeros_like()?,
    };
    let custom = CustomRequest {
        latent: &link,
        noise_mask: request.noise_mask,
        noise: &noise,
        seed: request.seed,
        sampler,
        options: SamplerOptions::default(),
        sigmas: &sigmas,
    };
    sample_custom(model, &guide, &custom, hooks)
}

/// Runs a sampler on given levels, noise and guide. Without levels the latent comes back as it is; with a single one
/// it only gets its noise.
///
/// # Shapes
/// Returns a latent on the link's scale and in f32, of the request's shape unless the sampler grows it.
///
/// # Errors
/// Fails on figures that cannot be used, if the network fails, or if the run was cancelled.
pub fn sample_custom(
    model: &SamplingModel<'_>,
    guide: &dyn Denoiser,
    request: &CustomRequest<'_>,
    hooks: Hooks<'_>,
) -> Result<Tensor> {
    let link = check_latent(request.latent)?;
    request.options.validate()?;
    check_sigmas(request.sigmas)?;
    let Some(first) = request.sigmas.first() else {
        return Ok(link);
    };
    if request.options.upscale.is_some() && request.noise_mask.is_some() {
        let reason = "a latent that grows cannot keep a part of itself".to_owned();
        return Err(SamplingError::Unsupported { feature: "noise mask with upscaling", reason });
    }
    if request.noise.dims() != link.dims() {
        let reason = format!("noise of shape {:?} for a latent of {:?}", request.noise.dims(), link.dims());
        return Err(SamplingError::invalid("noise", reason));
    }
    let latent = link.affine(model.latent_scale, 0.0)?;
    let mut ctx = SampleCtx::new(request.seed, model.schedule).with_options(request.options.clone());
    if let Some(on_step) = hooks.on_step {
        ctx = ctx.on_step(on_step);
    }
    if let Some(cancelled) = hooks.cancelled {
        ctx = ctx.cancelled(cancelled);
    }
    ctx.check()?;
    let x = scale_noise(model.schedule, request.noise, &latent, *first)?;
    let sampled = if request.sigmas.len() == 1 {
        x
    } else {
        let inpaint =
            request.noise_mask.map(|mask| InpaintDenoiser::new(model, guide, request, mask, latent));
        let inpaint = inpaint.transpose()?;
        let guide = inpaint.as_ref().map_or(guide, |inpaint| inpaint as &dyn Denoiser);
        (request.sampler.run)(guide, x, request.sigmas, &mut ctx)?
    };
    Ok(sampled.affine(1.0 / model.latent_scale, 0.0)?)
}

/// Adds the noise of a stretch of levels to a latent, without removing any.
///
/// # Errors
/// Fails if the shapes do not match.
///
/// # Source
/// Same values as ComfyUI `AddNoise`.
pub fn add_noise(latent: &Tensor, noise: &Tensor, sigmas: &[f64], latent_scale: f64) -> Result<Tensor> {
    let link = check_latent(latent)?;
    check_sigmas(sigmas)?;
    let level = match *sigmas {
        [] => return Ok(link),
        [only] => only,
        [first, .., last] => (first - last).abs(),
    };
    let noisy = (noise.affine(level, 0.0)? + link.affine(latent_scale, 0.0)?)?;
    Ok(noisy.affine(1.0 / latent_scale, 0.0)?)
}

/// Refuses levels that no sampler can follow. They may rise, as they do when noise is put back into a latent.
fn check_sigmas(sigmas: &[f64]) -> Result<()> {
    if let Some(sigma) = sigmas.iter().find(|sigma| !(sigma.is_finite() && **sigma >= 0.0)) {
        return Err(SamplingError::invalid("sigmas", format!("{sigma} is not a noise level")));
    }
    // Nothing can be taken away from a clean latent.
    match sigmas.split_last() {
        Some((_, before)) if before.contains(&0.0) => {
            Err(SamplingError::invalid("sigmas", "only the last noise level may be 0"))
        }
        _ => Ok(()),
    }
}

fn check_latent(latent: &Tensor) -> Result<Tensor> {
    if latent.rank() != 4 || latent.elem_count() == 0 {
        let reason = format!("expected `[batch, channels, height, width]`, got {:?}", latent.dims());
        return Err(SamplingError::invalid("latent", reason));
    }
    Ok(latent.to_dtype(DType::F32)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::model_inputs::ModelInputs;
    use super::*;

    /// Predicts a share of what it sees, more where the context is larger.
    struct Shrink;

    impl NoisePredictor for Shrink {
        fn predict(&self, x: &Tensor, _: &Tensor, inputs: &ModelInputs) -> Result<Tensor> {
            Ok(x.broadcast_mul(&inputs.context.mean((1, 2))?.reshape(((), 1, 1, 1))?)?)
        }
    }

    fn ones() -> Tensor {
        Tensor::ones((1, 4, 4, 4), DType::F32, &Device::Cpu).unwrap()
    }

    fn run(edit: impl FnOnce(&mut SampleRequest<'_>)) -> Result<Tensor> {
        run_on(&ones(), None, edit)
    }

    fn run_on(
        latent: &Tensor,
        noise_mask: Option<&Tensor>,
        edit: impl FnOnce(&mut SampleRequest<'_>),
    ) -> Result<Tensor> {
        let entry = |v: f32| -> Result<ConditioningEntry> {
            Ok(ConditioningEntry::new(Tensor::full(v, (1, 77, 8), &Device::Cpu)?))
        };
        let (positive, negative) = ([entry(0.9)?], [entry(0.8)?]);
        let mut request = SampleRequest::new(latent, &positive, &negative);
        request.steps = 4;
        request.noise_mask = noise_mask;
        edit(&mut request);
        let schedule = NoiseSchedule::sd15();
        let model = SamplingModel::new(&Shrink, &schedule, 0.18215);
        sample(&model, &request, Hooks::default())
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn nothing_to_do_returns_the_latent() {
        let edits: [fn(&mut SampleRequest<'_>); 3] =
            [|r| r.denoise = 0.0, |r| r.start_step = Some(4), |r| r.end_step = Some(0)];
        for edit in edits {
            assert_eq!(values(&run(edit).unwrap()), vec![1.0; 64]);
        }
    }

    #[test]
    fn bad_requests_are_named() {
        let check = |edit: fn(&mut SampleRequest<'_>), expected: &str| {
            let error = run(edit).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(|r| r.steps = 0, "steps");
        check(|r| r.sampler = "nope", "`euler`");
        check(|r| r.scheduler = "nope", "`karras`");
        check(|r| r.denoise = f64::NAN, "denoise");
        check(|r| r.cfg = f64::INFINITY, "cfg");
        check(|r| r.denoise = 1e-9, "steps");
        check(|r| (r.steps, r.scheduler) = (1, "kl_optimal"), "kl_optimal");
    }

    #[test]
    fn two_halves_make_a_whole() {
        let whole = values(&run(|_| ()).unwrap());
        let first = run(|r| r.end_step = Some(2)).unwrap();
        let second = run_on(&first, None, |r| {
            r.start_step = Some(2);
            r.add_noise = false;
        });
        for (a, b) in values(&second.unwrap()).iter().zip(&whole) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
        let forced = run(|r| (r.end_step, r.force_full_denoise) = (Some(2), true)).unwrap();
        assert!(values(&forced).iter().zip(&values(&first)).any(|(a, b)| (a - b).abs() > 1e-3));
    }

    #[test]
    fn a_mask_keeps_the_rest_of_the_latent() {
        let mask = Tensor::from_vec(vec![0f32, 1.0], (1, 2), &Device::Cpu).unwrap();
        let mask = mask.repeat((2, 1)).unwrap().repeat((4, 4)).unwrap();
        for name in ["euler", "ddim", "dpmpp_2m_sde", "euler_ancestral", "euler_cfg_pp"] {
            let out = values(&run_on(&ones(), Some(&mask), |r| r.sampler = name).unwrap());
            let zero = Tensor::zeros((1, 2, 2), DType::F32, &Device::Cpu).unwrap();
            let kept = values(&run_on(&ones(), Some(&zero), |r| r.sampler = name).unwrap());
            assert!(kept.iter().all(|v| (v - 1.0).abs() < 1e-5), "{name}: {kept:?}");
            assert!(out.iter().any(|v| (v - 1.0).abs() > 1e-3), "{name}");
        }
        let flat = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
        assert!(run_on(&ones(), Some(&flat), |_| ()).is_err());
    }

    #[test]
    fn a_cancelled_run_does_not_start() {
        let latent = ones();
        let schedule = NoiseSchedule::sd15();
        let model = SamplingModel::new(&Shrink, &schedule, 0.18215);
        let hooks = Hooks { on_step: None, cancelled: Some(&|| true) };
        let result = sample(&model, &SampleRequest::new(&latent, &[], &[]), hooks);
        assert!(matches!(result, Err(SamplingError::Cancelled)));
    }

    /// Runs given levels with a sampler and no changes to the model.
    fn run_custom(sampler: &str, sigmas: &[f64], options: SamplerOptions) -> Result<Tensor> {
        let schedule = NoiseSchedule::sd15();
        let model = SamplingModel::new(&Shrink, &schedule, 0.18215);
        let positive = [ConditioningEntry::new(Tensor::full(0.9f32, (1, 77, 8), &Device::Cpu)?)];
        let guide = model.guide(&[&positive, &[]], GuidanceRule::Single { cfg: 1.0 })?;
        let latent = ones();
        let request = CustomRequest {
            latent: &latent,
            noise_mask: None,
            noise: &prepare_noise(&latent, 7, None)?,
            seed: 7,
            sampler: find_sampler(sampler)?,
            options,
            sigmas,
        };
        sample_custom(&model, &guide, &request, Hooks::default())
    }

    #[test]
    fn few_levels_leave_the_latent_or_only_add_noise() {
        let options = SamplerOptions::default;
        assert_eq!(values(&run_custom("euler", &[], options()).unwrap()), vec![1.0; 64]);
        let noise = values(&prepare_noise(&ones(), 7, None).unwrap());
        for name in ["euler", "dpmpp_2m_sde", "uni_pc", "dpm_fast"] {
            let noisy = values(&run_custom(name, &[2.0], options()).unwrap());
            for (got, noise) in noisy.iter().zip(&noise) {
                assert!((got - (1.0 + 2.0 * noise / 0.18215)).abs() < 1e-4, "{name}");
            }
        }
        assert!(run_custom("euler", &[1.0, f64::NAN], options()).is_err());
        assert!(run_custom("euler", &[1.0, 0.0, 0.0], options()).is_err());
        assert!(run_custom("euler", &[1.0, 0.0], SamplerOptions::noisy(-1.0, 1.0)).is_err());
    }

    #[test]
    fn added_noise_spans_the_levels() {
        let noise = prepare_noise(&ones(), 7, None).unwrap();
        let added = values(&add_noise(&ones(), &noise, &[3.0, 2.0, 1.0], 0.5).unwrap());
        for (got, noise) in added.iter().zip(values(&noise)) {
            assert!((got - (1.0 + 2.0 * noise / 0.5)).abs() < 1e-5);
        }
        assert_eq!(values(&add_noise(&ones(), &noise, &[], 0.5).unwrap()), vec![1.0; 64]);
    }
}
