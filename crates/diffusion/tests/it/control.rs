//! Control networks of every kind against diffusers, on generated miniatures.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use candle_core::{DType, Device, Tensor};
use comfy_diffusion::changes::ModelSource;
use comfy_diffusion::checkpoint::CheckpointHeader;
use comfy_diffusion::control::{AppliedControl, ControlKind, ControlNetwork, ControlOptions, ControlUse};
use comfy_diffusion::sampling::{
    CfgDenoiser, ConditioningEntry, Denoiser, ModelInputs, NoisePredictor, SamplingError,
};
use comfy_diffusion::{DiffusionModel, Error, load_model};

use crate::compare::{assert_close, distance};
use crate::models::{Tiny, wave};
use crate::random_checkpoint::{self as files, ControlFile, Layout};

const TOLERANCE: f64 = 3e-5;
const STRENGTH: f64 = 0.7;

struct Base {
    file: Tiny,
    model: DiffusionModel,
    name: &'static str,
}

impl Base {
    fn new(layout: &Layout) -> Self {
        let file = Tiny::of(layout);
        let model = load_model(&file.path, &Device::Cpu, DType::F32, &[]).unwrap();
        Self { file, model, name: layout.name }
    }
}

static SD1: LazyLock<Base> = LazyLock::new(|| Base::new(&files::TINY));
static SD2: LazyLock<Base> = LazyLock::new(|| Base::new(&files::TINY_SD2));
static SDXL: LazyLock<Base> = LazyLock::new(|| Base::new(&files::TINY_SDXL));

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

static FIGURES: LazyLock<HashMap<String, Tensor>> =
    LazyLock::new(|| candle_core::safetensors::load(fixture("control.safetensors"), &Device::Cpu).unwrap());

fn figure(name: &str) -> Tensor {
    FIGURES[name].clone()
}

/// A control file; its folder is removed with it.
struct File {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn of(control: &ControlFile) -> Self {
        Self::named(control, "control.safetensors")
    }

    fn named(control: &ControlFile, name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        control.write(&path).unwrap();
        Self { _folder: folder, path }
    }

    /// The same tensors under other names; those without one are left out.
    fn renamed(control: &ControlFile, rename: impl Fn(&str) -> Option<String>) -> Self {
        let file = Self::of(control);
        let tensors = candle_core::safetensors::load(&file.path, &Device::Cpu).unwrap();
        let renamed: HashMap<String, Tensor> =
            tensors.into_iter().filter_map(|(name, tensor)| Some((rename(&name)?, tensor))).collect();
        candle_core::safetensors::save(&renamed, &file.path).unwrap();
        file
    }

    fn kind(&self) -> ControlKind {
        ControlNetwork::kind(&CheckpointHeader::read(&self.path).unwrap()).unwrap()
    }

    fn load(&self, base: &Base) -> Result<Arc<ControlNetwork>, Error> {
        let base = ModelSource::new(&base.file.path);
        ControlNetwork::load(&self.path, &Device::Cpu, DType::F32, Some(&base)).map(Arc::new)
    }
}

fn used(network: &Arc<ControlNetwork>, options: ControlOptions) -> Arc<ControlUse> {
    Arc::new(ControlUse::new(network.clone(), &figure("hint"), options).unwrap())
}

fn strong(kind: Option<usize>) -> ControlOptions {
    ControlOptions { strength: STRENGTH, kind, ..ControlOptions::default() }
}

fn inputs(base: &Base) -> ModelInputs {
    let vector = FIGURES.get(&format!("vector.{}", base.name)).cloned();
    ModelInputs { vector, ..ModelInputs::text(figure(&format!("context.{}", base.name))) }
}

/// What the model makes of the fixture's latents with these control networks.
fn run(base: &Base, uses: Vec<Arc<ControlUse>>) -> Result<Tensor, Error> {
    let control = (!uses.is_empty()).then_some(AppliedControl { uses, batch: 2 });
    base.model.forward(&figure("x"), &figure("timesteps"), &ModelInputs { control, ..inputs(base) })
}

fn check(base: &Base, control: &ControlFile, kind: ControlKind) {
    let file = File::of(control);
    assert_eq!(file.kind(), kind);
    let network = file.load(base).unwrap();
    base.model.check_control(&network).unwrap();
    let found = run(base, vec![used(&network, strong(None))]).unwrap();
    assert_close(control.name, &found, &figure(&format!("y.{}", control.name)), TOLERANCE);
    let plain = run(base, vec![]).unwrap();
    assert_close("without", &plain, &figure(&format!("y.{}", base.name)), TOLERANCE);
    assert!(distance(&found, &plain).relative > 0.03, "{}", control.name);
    // Nothing of it is left at strength 0.
    let zero = ControlOptions { strength: 0.0, ..strong(None) };
    assert_eq!(distance(&run(base, vec![used(&network, zero)]).unwrap(), &plain).max_abs, 0.0);
}

#[test]
fn controlnets_agree() {
    check(&SD1, &files::CONTROL_SD1, ControlKind::Network);
    check(&SD2, &files::CONTROL_SD2, ControlKind::Network);
    check(&SDXL, &files::CONTROL_SDXL, ControlKind::Network);
}

#[test]
fn changes_to_a_model_agree() {
    check(&SD1, &files::CONTROL_DIFFERENCE, ControlKind::Difference);
    check(&SD1, &files::CONTROL_LORA, ControlKind::LowRank);
}

#[test]
fn adapters_agree() {
    check(&SD1, &files::T2I_SD1, ControlKind::Adapter);
    check(&SD1, &files::T2I_LIGHT, ControlKind::Adapter);
    check(&SDXL, &files::T2I_SDXL, ControlKind::Adapter);
}

#[test]
fn union_networks_are_told_what_they_see() {
    let network = File::of(&files::CONTROL_UNION).load(&SDXL).unwrap();
    assert_eq!(network.picture_kinds(), Some(6));
    for (kind, name) in [(Some(3), "3"), (None, "None")] {
        let found = run(&SDXL, vec![used(&network, strong(kind))]).unwrap();
        assert_close(name, &found, &figure(&format!("y.tiny-control-union.{name}")), TOLERANCE);
    }
    let error = ControlUse::new(network, &figure("hint"), strong(Some(6))).unwrap_err().to_string();
    assert!(error.contains("knows 6 kinds"), "{error}");
    // Others know no kinds and need not be told.
    let plain = File::of(&files::CONTROL_SDXL).load(&SDXL).unwrap();
    assert_eq!(plain.picture_kinds(), None);
    let told = run(&SDXL, vec![used(&plain, strong(Some(7)))]).unwrap();
    assert_eq!(distance(&told, &run(&SDXL, vec![used(&plain, strong(None))]).unwrap()).max_abs, 0.0);
}

#[test]
fn several_networks_add_up() {
    let [first, second] =
        [&files::CONTROL_SD1, &files::CONTROL_DIFFERENCE].map(|file| File::of(file).load(&SD1).unwrap());
    let found = run(&SD1, vec![used(&first, strong(None)), used(&second, strong(None))]).unwrap();
    assert_close("both", &found, &figure("y.both"), TOLERANCE);
    // Kinds mix too: what adapters say is heard on the way down.
    let adapter = File::of(&files::T2I_SD1).load(&SD1).unwrap();
    let mixed = run(&SD1, vec![used(&first, strong(None)), used(&adapter, strong(None))]).unwrap();
    for name in ["y.tiny-control", "y.tiny-t2i"] {
        assert!(distance(&mixed, &figure(name)).relative > 1e-2, "{name}");
    }
}

#[test]
fn only_the_mean_counts_where_that_is_wanted() {
    let network = File::of(&files::CONTROL_SD1).load(&SD1).unwrap();
    let options = ControlOptions { mean_only: true, ..strong(None) };
    let found = run(&SD1, vec![used(&network, options)]).unwrap();
    assert_close("mean", &found, &figure("y.tiny-control.mean"), TOLERANCE);
}

#[test]
fn diffusers_layouts_are_the_same_networks() {
    let text = std::fs::read_to_string(fixture("control_names.txt")).unwrap();
    let theirs = |kind: &str| -> HashMap<String, String> {
        let words = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        words.filter(|w| w[0] == kind).map(|w| (w[2].to_owned(), w[1].to_owned())).collect()
    };
    for (control, base, kind, figure_name) in [
        (&files::CONTROL_SD1, &SD1, None, "y.tiny-control"),
        (&files::CONTROL_UNION, &SDXL, Some(3), "y.tiny-control-union.3"),
        (&files::T2I_SD1, &SD1, None, "y.tiny-t2i"),
        (&files::T2I_SDXL, &SDXL, None, "y.tiny-t2i-sdxl"),
        (&files::T2I_LIGHT, &SD1, None, "y.tiny-t2i-light"),
    ] {
        let names = theirs(control.name);
        let file =
            File::renamed(control, |name| Some(names.get(name).unwrap_or_else(|| panic!("{name}")).clone()));
        let found = run(base, vec![used(&file.load(base).unwrap(), strong(kind))]).unwrap();
        assert_close(control.name, &found, &figure(figure_name), TOLERANCE);
    }
    let bare =
        File::renamed(&files::CONTROL_SD1, |name| name.strip_prefix("control_model.").map(str::to_owned));
    let found = run(&SD1, vec![used(&bare.load(&SD1).unwrap(), strong(None))]).unwrap();
    assert_close("bare", &found, &figure("y.tiny-control"), TOLERANCE);
    let wrapped = File::renamed(&files::T2I_SD1, |name| Some(format!("adapter.{name}")));
    let found = run(&SD1, vec![used(&wrapped.load(&SD1).unwrap(), strong(None))]).unwrap();
    assert_close("wrapped", &found, &figure("y.tiny-t2i"), TOLERANCE);
}

#[test]
fn batches_equal_singles() {
    let pictures = Tensor::cat(&[figure("hint"), figure("hint").flip(&[3]).unwrap()], 0).unwrap();
    for control in [&files::CONTROL_SD1, &files::T2I_SD1] {
        let network = File::of(control).load(&SD1).unwrap();
        let show = |pictures: &Tensor| {
            let options = strong(None);
            vec![Arc::new(ControlUse::new(network.clone(), pictures, options).unwrap())]
        };
        let both = run(&SD1, show(&pictures)).unwrap();
        for i in 0..2 {
            let one = |tensor: Tensor| tensor.narrow(0, i, 1).unwrap();
            let control = Some(AppliedControl { uses: show(&one(pictures.clone())), batch: 1 });
            let inputs = ModelInputs { control, ..ModelInputs::text(one(figure("context.tiny"))) };
            let alone = SD1.model.forward(&one(figure("x")), &one(figure("timesteps")), &inputs).unwrap();
            assert_close(control_name(i), &one(both.clone()), &alone, 1e-5);
        }
        assert!(distance(&both, &run(&SD1, show(&figure("hint"))).unwrap()).relative > 1e-3);
    }
}

fn control_name(i: usize) -> &'static str {
    ["first", "second"][i]
}

#[test]
fn latents_of_any_size_are_steered() {
    // Odd sides are rounded up on the way down, by networks as by adapters.
    for (base, control) in [
        (&SD1, &files::CONTROL_SD1),
        (&SD1, &files::T2I_SD1),
        (&SD1, &files::T2I_LIGHT),
        (&SDXL, &files::T2I_SDXL),
    ] {
        let network = File::of(control).load(base).unwrap();
        let uses = vec![used(&network, strong(None))];
        let control = Some(AppliedControl { uses, batch: 2 });
        let inputs = ModelInputs { control, ..inputs(base) };
        let steered = base.model.forward(&wave(&[2, 4, 9, 13], 0.3), &figure("timesteps"), &inputs).unwrap();
        assert_eq!(steered.dims(), [2, 4, 9, 13]);
    }
}

#[test]
fn networks_for_other_models_are_named() {
    let check = |control: &ControlFile, base: &Base, expected: &str| {
        let network = File::of(control).load(base).unwrap();
        let error = base.model.check_control(&network).unwrap_err().to_string();
        assert!(error.contains("another kind of model") && error.contains(expected), "{error}");
        // Even unchecked it does not end in a panic.
        assert!(run(base, vec![used(&network, strong(None))]).is_err());
    };
    check(&files::CONTROL_SD2, &SD1, "its text is 128 wide, the model's 64 wide");
    check(&files::CONTROL_SDXL, &SD1, "its text is 192 wide, the model's 64 wide");
    check(&files::CONTROL_SD1, &SDXL, "its text is 64 wide, the model's 192 wide");
    check(&files::T2I_SDXL, &SD1, "[32, 64, 128, 128]");
    check(&files::T2I_SD1, &SD2, "[64, 64, 128, 128]");
    let error = File::of(&files::CONTROL_LORA).load(&SDXL).unwrap_err().to_string();
    assert!(error.contains("control-LoRA for another kind of model"), "{error}");
}

#[test]
fn what_is_no_control_network_is_named() {
    let refused = |file: &File, expected: &str| {
        let error = ControlNetwork::load(&file.path, &Device::Cpu, DType::F32, None).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    for control in [&files::CONTROL_LORA, &files::CONTROL_DIFFERENCE] {
        refused(&File::of(control), "loaded with one");
    }
    let without = |part: &'static str| {
        File::renamed(&files::CONTROL_SD1, move |name| (!name.contains(part)).then(|| name.to_owned()))
    };
    refused(&without("zero_convs.0."), "no ControlNet, control-LoRA or T2I-adapter");
    refused(&without("input_hint_block.8."), "input_hint_block.8.weight");
    refused(&without("middle_block.0"), "middle_block");
    refused(&without("zero_convs.7."), "zero_convs.7.0.weight");
    let error = ControlNetwork::load(&SD1.file.path, &Device::Cpu, DType::F32, None).unwrap_err();
    assert!(matches!(error, Error::Unsupported { part: "control network", .. }));
    let network = File::of(&files::T2I_SD1).load(&SD1).unwrap();
    let flat = Tensor::zeros((3, 8, 8), DType::F32, &Device::Cpu).unwrap();
    assert!(ControlUse::new(network.clone(), &flat, strong(None)).is_err());
    let options = ControlOptions { strength: f64::NAN, ..strong(None) };
    assert!(ControlUse::new(network, &figure("hint"), options).is_err());
}

struct Predictor<'a>(&'a DiffusionModel);

impl NoisePredictor for Predictor<'_> {
    fn predict(&self, x: &Tensor, timestep: &Tensor, inputs: &ModelInputs) -> Result<Tensor, SamplingError> {
        self.0.forward(x, timestep, inputs).map_err(|e| candle_core::Error::Msg(e.to_string()).into())
    }
}

/// The guided estimate at a noise level.
fn guided(positive: &ConditioningEntry, negative: &ConditioningEntry, sigma: f64) -> Tensor {
    let (positive, negative) = (std::slice::from_ref(positive), std::slice::from_ref(negative));
    let (predictor, schedule) = (Predictor(&SD1.model), SD1.model.schedule());
    let denoiser = CfgDenoiser::new(&predictor, schedule, positive, negative, 5.0).unwrap();
    denoiser.denoise(&(figure("x") * sigma).unwrap(), sigma).unwrap()
}

#[test]
fn a_network_counts_between_its_levels() {
    let network = File::of(&files::CONTROL_SD1).load(&SD1).unwrap();
    let schedule = SD1.model.schedule();
    let options = ControlOptions { start_percent: 0.25, end_percent: 0.75, ..strong(None) };
    let part = used(&network, options);
    let always = used(&network, strong(None));
    let text = |row: usize| figure("context.tiny").narrow(0, row, 1).unwrap();
    let entry = |row, uses: &[&Arc<ControlUse>]| ConditioningEntry {
        controls: uses.iter().map(|used| (*used).clone()).collect(),
        ..ConditioningEntry::new(text(row))
    };
    let run = |uses: &[&Arc<ControlUse>], sigma| guided(&entry(0, uses), &entry(1, uses), sigma);
    let (start, end) = (schedule.percent_to_sigma(0.25), schedule.percent_to_sigma(0.75));
    for sigma in [start * 1.001, start, (start * end).sqrt(), end, end * 0.999] {
        let found = run(&[&part], sigma);
        let expected = if (end..=start).contains(&sigma) { run(&[&always], sigma) } else { run(&[], sigma) };
        assert_eq!(distance(&found, &expected).max_abs, 0.0, "{sigma}");
    }
    assert!(distance(&run(&[&always], start), &run(&[], start)).relative > 1e-3);
}

#[test]
fn every_prompt_has_its_own_networks() {
    let network = File::of(&files::CONTROL_SD1).load(&SD1).unwrap();
    let (one, other) =
        (used(&network, strong(None)), used(&network, ControlOptions { strength: 2.0, ..strong(None) }));
    let text = |row: usize| figure("context.tiny").narrow(0, row, 1).unwrap();
    let entry = |row, uses: Vec<Arc<ControlUse>>| ConditioningEntry {
        controls: uses,
        ..ConditioningEntry::new(text(row))
    };
    let alone = |entry: &ConditioningEntry| {
        let predictor = Predictor(&SD1.model);
        let entries = std::slice::from_ref(entry);
        let denoiser = CfgDenoiser::new(&predictor, SD1.model.schedule(), entries, &[], 1.0).unwrap();
        denoiser.denoise(&(figure("x") * 2.0).unwrap(), 2.0).unwrap()
    };
    let guide =
        |cond: &Tensor, uncond: &Tensor| ((cond - uncond).unwrap() * 5.0).unwrap().add(uncond).unwrap();
    // Sides with other networks run apart; the result is that of each on its own.
    let (positive, negative) = (entry(0, vec![one.clone()]), entry(1, vec![other]));
    let found = guided(&positive, &negative, 2.0);
    assert_close("apart", &found, &guide(&alone(&positive), &alone(&negative)), 1e-4);
    // A network that is meant for all goes to the other side, unless that has its own.
    let shared = ConditioningEntry { control_for_all: true, ..positive.clone() };
    let (without, with) = (entry(1, vec![]), entry(1, vec![one]));
    let expected = guided(&positive, &with, 2.0);
    assert_eq!(distance(&guided(&shared, &without, 2.0), &expected).max_abs, 0.0);
    assert_eq!(distance(&guided(&shared, &negative, 2.0), &found).max_abs, 0.0);
    assert!(distance(&guided(&positive, &without, 2.0), &expected).relative > 1e-3);
}
