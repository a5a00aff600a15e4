//! Samplers: how x is carried from one noise level to the next.
//!
//! A sampler is one function and one row of [`SAMPLERS`]. Every function takes the noisy latent at the first level and
//! returns the latent at the last one.

mod common;
mod ddpm;
mod deis;
mod dpm2;
mod dpm_solver;
mod dpmpp_2m;
mod dpmpp_2m_sde;
mod dpmpp_2s;
mod dpmpp_3m_sde;
mod dpmpp_sde;
mod er_sde;
mod euler;
mod gradient_estimation;
mod heun;
mod ipndm;
mod lcm;
mod linear;
mod lms;
mod res_multistep;
mod sa_solver;
mod seeds;
mod uni_pc;

use candle_core::Tensor;

use super::denoiser::{Denoiser, SampleCtx};
use super::error::{Result, SamplingError};

/// Carries a noisy latent down the given levels.
pub type SamplerFn = fn(&dyn Denoiser, Tensor, &[f64], &mut SampleCtx<'_>) -> Result<Tensor>;

/// Which of a schedule's levels a sampler leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Levels {
    All,
    /// The last level above 0 is left out of a schedule that is one step longer.
    WithoutPenultimate,
}

/// Where the noise comes from that keeps the unmasked part of an inpainting run at its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InpaintNoise {
    /// The run's initial noise.
    Initial,
    /// A fresh draw of the next seed.
    NextSeed,
}

/// One row of the sampler table.
#[derive(Debug, Clone, Copy)]
pub struct Sampler {
    pub name: &'static str,
    pub run: SamplerFn,
    pub levels: Levels,
    pub inpaint_noise: InpaintNoise,
}

impl Sampler {
    const fn new(name: &'static str, run: SamplerFn) -> Self {
        Self { name, run, levels: Levels::All, inpaint_noise: InpaintNoise::Initial }
    }

    const fn without_penultimate(self) -> Self {
        Self { levels: Levels::WithoutPenultimate, ..self }
    }

    const fn inpaint_noise(self, inpaint_noise: InpaintNoise) -> Self {
        Self { inpaint_noise, ..self }
    }
}

/// Every sampler, in the order it is offered to a user.
///
/// The `_gpu` names differ in where ComfyUI computes the noise; here it is always the CPU's.
pub const SAMPLERS: &[Sampler] = &[
    Sampler::new("euler", euler::euler),
    Sampler::new("euler_cfg_pp", euler::euler_cfg_pp),
    Sampler::new("euler_ancestral", euler::euler_ancestral),
    Sampler::new("euler_ancestral_cfg_pp", euler::euler_ancestral_cfg_pp),
    Sampler::new("heun", heun::heun),
    Sampler::new("heunpp2", heun::heunpp2),
    Sampler::new("dpm_2", dpm2::dpm_2).without_penultimate(),
    Sampler::new("dpm_2_ancestral", dpm2::dpm_2_ancestral).without_penultimate(),
    Sampler::new("lms", lms::lms),
    Sampler::new("dpm_fast", dpm_solver::dpm_fast),
    Sampler::new("dpm_adaptive", dpm_solver::dpm_adaptive),
    Sampler::new("dpmpp_2s_ancestral", dpmpp_2s::dpmpp_2s_ancestral),
    Sampler::new("dpmpp_2s_ancestral_cfg_pp", dpmpp_2s::dpmpp_2s_ancestral_cfg_pp),
    Sampler::new("dpmpp_sde", dpmpp_sde::dpmpp_sde),
    Sampler::new("dpmpp_sde_gpu", dpmpp_sde::dpmpp_sde),
    Sampler::new("dpmpp_2m", dpmpp_2m::dpmpp_2m),
    Sampler::new("dpmpp_2m_cfg_pp", dpmpp_2m::dpmpp_2m_cfg_pp),
    Sampler::new("dpmpp_2m_sde", dpmpp_2m_sde::midpoint),
    Sampler::new("dpmpp_2m_sde_gpu", dpmpp_2m_sde::midpoint),
    Sampler::new("dpmpp_2m_sde_heun", dpmpp_2m_sde::heun),
    Sampler::new("dpmpp_2m_sde_heun_gpu", dpmpp_2m_sde::heun),
    Sampler::new("dpmpp_3m_sde", dpmpp_3m_sde::dpmpp_3m_sde),
    Sampler::new("dpmpp_3m_sde_gpu", dpmpp_3m_sde::dpmpp_3m_sde),
    Sampler::new("ddpm", ddpm::ddpm),
    Sampler::new("lcm", lcm::lcm),
    Sampler::new("ipndm", ipndm::ipndm),
    Sampler::new("ipndm_v", ipndm::ipndm_v),
    Sampler::new("deis", deis::deis),
    Sampler::new("res_multistep", res_multistep::res_multistep),
    Sampler::new("res_multistep_cfg_pp", res_multistep::res_multistep_cfg_pp),
    Sampler::new("res_multistep_ancestral", res_multistep::res_multistep_ancestral),
    Sampler::new("res_multistep_ancestral_cfg_pp", res_multistep::res_multistep_ancestral_cfg_pp),
    Sampler::new("gradient_estimation", gradient_estimation::gradient_estimation),
    Sampler::new("gradient_estimation_cfg_pp", gradient_estimation::gradient_estimation_cfg_pp),
    Sampler::new("er_sde", er_sde::er_sde),
    Sampler::new("seeds_2", seeds::seeds_2),
    Sampler::new("seeds_3", seeds::seeds_3),
    Sampler::new("sa_solver", sa_solver::sa_solver),
    Sampler::new("sa_solver_pece", sa_solver::sa_solver_pece),
    Sampler::new("ddim", euler::euler).inpaint_noise(InpaintNoise::NextSeed),
    Sampler::new("uni_pc", uni_pc::uni_pc).without_penultimate(),
    Sampler::new("uni_pc_bh2", uni_pc::uni_pc_bh2).without_penultimate(),
];

/// Finds a sampler by name.
///
/// # Errors
/// An unknown name is an error that lists the valid ones.
pub fn find_sampler(name: &str) -> Result<&'static Sampler> {
    SAMPLERS
        .iter()
        .find(|s| s.name == name)
        .ok_or_else(|| SamplingError::unknown("sampler", name, SAMPLERS.iter().map(|s| s.name)))
}

#[cfg(test)]
mod tests;
