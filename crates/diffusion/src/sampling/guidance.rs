//! Guidance: from a network that predicts noise to a denoiser that follows a prompt.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::Tensor;

use super::after_guidance::{AfterGuidance, blur_attended};
use super::denoiser::{Denoiser, Guided};
use super::error::{Result, SamplingError};
use super::grounding::GroundedText;
use super::guidance_formulas::{BeforeGuidance, Memory, optimised_scale, perpendicular, towards_direction};
use super::network_calls::{Network, NoisePredictor, View};
use super::prediction::Prediction;
use super::regions::{Placed, Region, RegionMask, Sum, place};
use super::rules::{DualStyle, GuidanceRule, is_one, rescaled, toward};
use super::schedule::NoiseSchedule;
use crate::control::ControlUse;

/// One prompt of a side, with where, when and how strongly it counts.
#[derive(Debug, Clone)]
pub struct ConditioningEntry {
    /// Encoded text, `[B,T,D]` or `[1,T,D]`.
    pub embedding: Tensor,
    /// The vector of the model families that are conditioned on one, `[B,V]` or `[1,V]`.
    pub vector: Option<Tensor>,
    /// Channels put behind those of the latent, for the model families that take them, `[B,C,h,w]` or `[1,C,h,w]`.
    pub concat: Option<Tensor>,
    /// Texts that belong to boxes of the picture.
    pub grounding: Option<GroundedText>,
    pub area: Option<Region>,
    pub mask: Option<RegionMask>,
    /// Weight against the other entries of the side.
    pub strength: f64,
    /// Share of the run at which the entry starts and ends to count.
    pub start_percent: f64,
    pub end_percent: f64,
    /// Control networks, one after the other.
    pub controls: Vec<Arc<ControlUse>>,
    /// Whether they also count for the other sides, where these have none of their own.
    pub control_for_all: bool,
}

impl ConditioningEntry {
    /// Builds an entry that counts everywhere, always and fully.
    pub fn new(embedding: Tensor) -> Self {
        Self {
            embedding,
            vector: None,
            concat: None,
            grounding: None,
            area: None,
            mask: None,
            strength: 1.0,
            start_percent: 0.0,
            end_percent: 1.0,
            controls: Vec::new(),
            control_for_all: false,
        }
    }

    fn validate(&self) -> Result<()> {
        if self.embedding.rank() != 3 {
            let reason = format!("expected 3 dimensions, got {:?}", self.embedding.dims());
            return Err(SamplingError::invalid("conditioning", reason));
        }
        if self.embedding.dim(1)? == 0 {
            return Err(SamplingError::invalid("conditioning", "the encoded text is empty"));
        }
        Ok(())
    }
}

/// Follows the positive entries and leads away from the negative ones.
///
/// # Source
/// Ho and Salimans 2022 (classifier-free guidance), eq. 6; Brooks et al. 2023 (InstructPix2Pix), eq. 3, for two
/// positive sides; same values as ComfyUI's CFG guiders.
pub struct CfgDenoiser<'a> {
    network: Network<'a>,
    sides: Vec<&'a [ConditioningEntry]>,
    rule: GuidanceRule,
    /// Share of the guided estimate that is brought back to the deviation of the positive one.
    rescale: Option<f64>,
    /// What is done to every guided estimate, in this order.
    after: &'a [AfterGuidance],
    /// What is done to both estimates before they are joined, in this order, and what it keeps.
    before: &'a [BeforeGuidance],
    memories: RefCell<Vec<Memory>>,
    /// The sides at the size of the latent that was last seen.
    placed: RefCell<Option<PlacedSides>>,
}

/// All sides at the size of one latent.
struct PlacedSides {
    shape: Vec<usize>,
    sides: Rc<Vec<Vec<Placed>>>,
}

impl<'a> CfgDenoiser<'a> {
    /// Guides `predictor` with the strength `cfg`.
    ///
    /// # Errors
    /// Fails on an entry that cannot be used.
    pub fn new(
        predictor: &'a dyn NoisePredictor,
        schedule: &'a NoiseSchedule,
        positive: &'a [ConditioningEntry],
        negative: &'a [ConditioningEntry],
        cfg: f64,
    ) -> Result<Self> {
        Self::with_rule(predictor, schedule, &[positive, negative], GuidanceRule::Single { cfg })
    }

    /// Guides `predictor` by a rule.
    ///
    /// # Errors
    /// Fails on an entry that cannot be used, and unless there are as many sides as the rule joins.
    pub fn with_rule(
        predictor: &'a dyn NoisePredictor,
        schedule: &'a NoiseSchedule,
        sides: &[&'a [ConditioningEntry]],
        rule: GuidanceRule,
    ) -> Result<Self> {
        let (count, strengths) = match rule {
            GuidanceRule::Single { cfg } => (2, vec![cfg]),
            GuidanceRule::Dual { cfg_conds, cfg_cond2_negative, .. } => {
                (3, vec![cfg_conds, cfg_cond2_negative])
            }
            GuidanceRule::Perpendicular { cfg, neg_scale } => (3, vec![cfg, neg_scale]),
        };
        if let Some(cfg) = strengths.iter().find(|cfg| !cfg.is_finite()) {
            return Err(SamplingError::invalid("cfg", format!("{cfg} is not a finite number")));
        }
        if sides.len() != count {
            let reason = format!("{count} sides are joined, got {}", sides.len());
            return Err(SamplingError::invalid("conditioning", reason));
        }
        sides.iter().copied().flatten().try_for_each(ConditioningEntry::validate)?;
        Ok(Self {
            network: Network { predictor, schedule, prediction: Prediction::default() },
            sides: sides.to_vec(),
            rule,
            rescale: None,
            after: &[],
            before: &[],
            memories: RefCell::default(),
            placed: RefCell::default(),
        })
    }

    /// Sets what the network's output means.
    pub fn prediction(mut self, prediction: Prediction) -> Self {
        self.network.prediction = prediction;
        self
    }

    /// Brings a share of every guided estimate back to the deviation of the positive one.
    pub fn rescale(mut self, share: Option<f64>) -> Self {
        self.rescale = share;
        self
    }

    /// Sets what is done to every guided estimate.
    pub fn after(mut self, after: &'a [AfterGuidance]) -> Self {
        self.after = after;
        self
    }

    /// Sets what is done to both estimates before they are joined.
    pub fn before(mut self, before: &'a [BeforeGuidance]) -> Self {
        self.before = before;
        self.memories = RefCell::new(vec![Memory::default(); before.len()]);
        self
    }

    fn placed(&self, x: &Tensor) -> Result<Rc<Vec<Vec<Placed>>>> {
        if let Some(placed) = self.placed.borrow().as_ref().filter(|placed| placed.shape == x.dims()) {
            return Ok(placed.sides.clone());
        }
        if x.rank() != 4 {
            let reason = format!("expected `[batch, channels, height, width]`, got {:?}", x.dims());
            return Err(SamplingError::invalid("latent", reason));
        }
        let sides = Rc::new(place(&self.sides, self.network.schedule, x.dims())?);
        *self.placed.borrow_mut() = Some(PlacedSides { shape: x.dims().to_vec(), sides: sides.clone() });
        Ok(sides)
    }

    /// Returns the estimate of x0 for each side (by its place), weighted over its active entries.
    fn evaluate<const N: usize>(&self, x: &Tensor, sigma: f64, sides: [usize; N]) -> Result<[Tensor; N]> {
        self.evaluate_as(x, sigma, sides, View::Plain)
    }

    fn evaluate_as<const N: usize>(
        &self,
        x: &Tensor,
        sigma: f64,
        sides: [usize; N],
        view: View<'_>,
    ) -> Result<[Tensor; N]> {
        let placed = self.placed(x)?;
        let entries: Vec<(usize, &Placed)> = sides
            .iter()
            .enumerate()
            .flat_map(|(result, side)| placed[*side].iter().map(move |entry| (result, entry)))
            .filter(|(_, entry)| entry.active(sigma))
            .collect();
        let watched = |result: usize| matches!(view, View::Watched(side, _) if side == sides[result]);
        let estimates = self.network.estimate_all(x, sigma, &entries, view, &watched)?;
        let mut sums: [Sum; N] = std::array::from_fn(|_| Sum::default());
        for ((result, entry), estimate) in entries.iter().zip(estimates) {
            sums[*result].add(entry, &estimate, x.dims())?;
        }
        let results = sums.into_iter().map(|sum| sum.mean(x)).collect::<Result<Vec<_>>>()?;
        Ok(results.try_into().expect("one result was made per side"))
    }

    /// Leads from the estimate of one side towards and past that of another.
    fn guide(&self, x: &Tensor, sigma: f64, pair: &mut Pair) -> Result<Tensor> {
        self.prepare(x, sigma, pair)?;
        let guided = match self.rescale {
            None => toward(&pair.uncond, &pair.cond, pair.cfg)?,
            Some(share) => rescaled(x, sigma, &pair.cond, &pair.uncond, pair.cfg, share)?,
        };
        self.finish(x, sigma, pair, guided)
    }

    /// Changes both estimates before they are joined.
    fn prepare(&self, x: &Tensor, sigma: f64, pair: &mut Pair) -> Result<()> {
        for (before, memory) in self.before.iter().zip(self.memories.borrow_mut().iter_mut()) {
            [pair.cond, pair.uncond] =
                before.apply(memory, x, sigma, [&pair.cond, &pair.uncond], pair.cfg)?;
        }
        Ok(())
    }

    /// Changes the estimate that both were joined to.
    fn finish(&self, x: &Tensor, sigma: f64, pair: &Pair, guided: Tensor) -> Result<Tensor> {
        self.after.iter().try_fold(guided, |guided, after| self.apply_after(after, x, sigma, pair, guided))
    }

    /// Joins three sides around an empty one.
    fn perpendicular(&self, x: &Tensor, sigma: f64, cfg: f64, neg_scale: f64) -> Result<Guided> {
        let ([cond, uncond, empty], received) = self.evaluate_pair(x, sigma, [0, 1, 2], 1)?;
        let mut pair = Pair { cond, uncond, sides: [0, 1], cfg, received };
        self.prepare(x, sigma, &mut pair)?;
        let guided = perpendicular([&pair.cond, &pair.uncond, &empty], cfg, neg_scale)?;
        Ok(Guided { denoised: self.finish(x, sigma, &pair, guided)?, uncond: pair.uncond })
    }

    fn apply_after(
        &self,
        after: &AfterGuidance,
        x: &Tensor,
        sigma: f64,
        pair: &Pair,
        guided: Tensor,
    ) -> Result<Tensor> {
        let (scale, more, less) = match *after {
            AfterGuidance::PerturbedAttention { scale: 0.0 } => return Ok(guided),
            AfterGuidance::PerturbedAttention { scale } => {
                let [perturbed] = self.evaluate_as(x, sigma, [pair.sides[0]], View::Perturbed)?;
                (scale, pair.cond.clone(), perturbed)
            }
            AfterGuidance::SelfAttention { scale, blur_sigma } => {
                let Some(received) = &pair.received else { return Ok(guided) };
                let Some(blurred) = blur_attended(&pair.uncond, received, blur_sigma)? else {
                    return Ok(guided);
                };
                let noisy = (&blurred + (x - &pair.uncond)?)?;
                let [less] = self.evaluate(&noisy, sigma, [pair.sides[1]])?;
                (scale, blurred, less)
            }
            AfterGuidance::ScaledNoise { factor } => {
                return Ok((x - ((x - guided)? / factor)?)?);
            }
            AfterGuidance::ZeroStar => {
                return optimised_scale(&guided, x, &pair.cond, &pair.uncond, pair.cfg);
            }
            AfterGuidance::Direction => {
                return towards_direction(&guided, &pair.cond, &pair.uncond, pair.cfg);
            }
        };
        Ok((guided + (more - less)?.affine(scale, 0.0)?)?)
    }

    /// Evaluates sides, watching the one that is guided away from if something wants to know what it looks at.
    fn evaluate_pair<const N: usize>(
        &self,
        x: &Tensor,
        sigma: f64,
        sides: [usize; N],
        away: usize,
    ) -> Result<([Tensor; N], Option<Tensor>)> {
        if !self.after.iter().any(AfterGuidance::needs_both_sides) {
            return Ok((self.evaluate(x, sigma, sides)?, None));
        }
        let received = RefCell::default();
        let estimates = self.evaluate_as(x, sigma, sides, View::Watched(away, &received))?;
        Ok((estimates, received.into_inner()))
    }

    /// Joins three sides; the estimate guided away from comes second.
    fn dual(
        &self,
        x: &Tensor,
        sigma: f64,
        strengths: (f64, f64),
        style: DualStyle,
    ) -> Result<(Tensor, Tensor)> {
        let sides = match style {
            DualStyle::Nested => [0, 1],
            DualStyle::Regular => [1, 2],
        };
        let ([first, second, negative], received) = self.evaluate_pair(x, sigma, [0, 1, 2], sides[1])?;
        let (cfg_conds, cfg_negative) = strengths;
        match style {
            DualStyle::Nested => {
                let mut pair = Pair { cond: first, uncond: second, sides, cfg: cfg_conds, received };
                let guided = self.guide(x, sigma, &mut pair)?;
                Ok((toward(&negative, &guided, cfg_negative)?, pair.uncond))
            }
            DualStyle::Regular => {
                let difference = (first - &second)?.affine(cfg_conds, 0.0)?;
                let mut pair = Pair { cond: second, uncond: negative, sides, cfg: cfg_negative, received };
                let base = self.guide(x, sigma, &mut pair)?;
                Ok(((base + difference)?, pair.uncond))
            }
        }
    }
}

/// Two estimates, one to be led away from, and where they come from.
struct Pair {
    cond: Tensor,
    uncond: Tensor,
    sides: [usize; 2],
    /// How far past the first one to go.
    cfg: f64,
    /// Attention that the places of the second got.
    received: Option<Tensor>,
}

impl Denoiser for CfgDenoiser<'_> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        // With strength 1 a side cancels out, so it is not evaluated.
        let both = self.after.iter().any(AfterGuidance::needs_both_sides);
        match self.rule {
            GuidanceRule::Single { cfg } if is_one(cfg) && !both => {
                let [cond] = self.evaluate(x, sigma, [0])?;
                let cond = self.before.iter().try_fold(cond, |cond, before| before.apply_alone(cond))?;
                let pair = Pair { uncond: cond.clone(), cond, sides: [0, 1], cfg, received: None };
                let mut alone = self.after.iter().filter(|after| after.acts_alone());
                alone.try_fold(pair.cond.clone(), |guided, after| {
                    self.apply_after(after, x, sigma, &pair, guided)
                })
            }
            GuidanceRule::Dual { cfg_conds, cfg_cond2_negative, style: DualStyle::Regular }
                if is_one(cfg_cond2_negative) && self.after.is_empty() && self.before.is_empty() =>
            {
                if is_one(cfg_conds) {
                    let [first] = self.evaluate(x, sigma, [0])?;
                    return Ok(first);
                }
                let [first, second] = self.evaluate(x, sigma, [0, 1])?;
                toward(&second, &first, cfg_conds)
            }
            // Without a negative side there is less to evaluate, and without strength next to nothing.
            GuidanceRule::Perpendicular { cfg, neg_scale }
                if neg_scale.abs() <= 1e-9 && self.after.is_empty() && self.before.is_empty() =>
            {
                if is_one(cfg) {
                    let [positive] = self.evaluate(x, sigma, [0])?;
                    return Ok(positive);
                }
                let [positive, empty] = self.evaluate(x, sigma, [0, 2])?;
                toward(&empty, &positive, cfg)
            }
            _ => Ok(self.denoise_both(x, sigma)?.denoised),
        }
    }

    fn denoise_both(&self, x: &Tensor, sigma: f64) -> Result<Guided> {
        match self.rule {
            GuidanceRule::Single { cfg } => {
                let ([cond, uncond], received) = self.evaluate_pair(x, sigma, [0, 1], 1)?;
                let mut pair = Pair { cond, uncond, sides: [0, 1], cfg, received };
                Ok(Guided { denoised: self.guide(x, sigma, &mut pair)?, uncond: pair.uncond })
            }
            GuidanceRule::Dual { cfg_conds, cfg_cond2_negative, style } => {
                let (denoised, uncond) = self.dual(x, sigma, (cfg_conds, cfg_cond2_negative), style)?;
                Ok(Guided { denoised, uncond })
            }
            GuidanceRule::Perpendicular { cfg, neg_scale } => self.perpendicular(x, sigma, cfg, neg_scale),
        }
    }
}

#[cfg(test)]
#[path = "guidance_tests.rs"]
mod tests;
