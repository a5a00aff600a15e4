//! ImageMagick's process-wide state: start-up, resource limits, and the check of its policy.

use std::sync::Once;

use magick_rust::{MagickWand, ResourceType, magick_wand_genesis};

use crate::error::{ImagingError, Result};

/// The smallest severity that ImageMagick counts as an error; lower ones are warnings.
const ERROR_SEVERITY: u32 = 400;

/// Limits that hold even where no policy file is found; the shipped `policy.xml` has the same figures.
const RESOURCE_LIMITS: &[(ResourceType, u64)] = &[
    (ResourceType::Memory, 1 << 30),
    (ResourceType::Map, 1 << 30),
    (ResourceType::Disk, 0),
    (ResourceType::Area, 128_000_000),
    (ResourceType::Width, 16_384),
    (ResourceType::Height, 16_384),
    (ResourceType::ListLength, 256),
    // Callers run one picture per thread already.
    (ResourceType::Thread, 1),
];

/// Starts ImageMagick once for the process and sets its limits.
///
/// It is never shut down: wands may live on any thread until the process ends.
fn initialise() {
    static START: Once = Once::new();
    START.call_once(|| {
        magick_wand_genesis();
        for (resource, limit) in RESOURCE_LIMITS {
            // A limit can only be refused where a policy already sets a lower one.
            let _ = MagickWand::set_resource_limit(*resource, *limit);
        }
    });
}

/// Makes an empty wand, with ImageMagick started.
pub(crate) fn new_wand() -> MagickWand {
    initialise();
    MagickWand::new()
}

/// Reads a file of a known format into a wand.
pub(crate) fn read(bytes: &[u8], coder: &str) -> Result<MagickWand> {
    let mut wand = new_wand();
    let failed = |message: String| ImagingError::magick("decode the picture", message);
    // The format is given, never guessed: ImageMagick would also obey a prefix or look at the content itself.
    wand.set_format(coder).map_err(|error| failed(error.to_string()))?;
    wand.read_image_blob(bytes).map_err(|error| failed(error.to_string()))?;
    // A read that broke off half-way can still return a picture.
    if wand.get_exception_type() as u32 >= ERROR_SEVERITY {
        let message = wand.get_exception().map_or_else(|error| error.to_string(), |(text, _)| text);
        return Err(failed(message));
    }
    Ok(wand)
}

/// Checks that ImageMagick refuses what it must: every coder but three, and large or slow work.
///
/// Call it at start-up of a service that reads pictures of strangers.
///
/// # Errors
/// [`ImagingError::PolicyTooOpen`] naming the coder that was not refused by policy, or the coder that was refused
/// although it is needed.
pub fn policy_is_strict() -> Result<()> {
    let open = |reason: String| Err(ImagingError::PolicyTooOpen { reason });
    // A coder that is not installed reads nothing, but tells nothing about the policy either.
    let installed = || FORBIDDEN.iter().filter(|(coder, _)| new_wand().set_format(coder).is_ok());
    if installed().next().is_none() {
        return open("no coder is installed that a policy would have to refuse".to_owned());
    }
    for (coder, bytes) in installed() {
        match read(bytes, coder) {
            Err(error) if is_policy_refusal(&error) => {}
            Err(error) => return open(format!("`{coder}` is not forbidden by policy ({error})")),
            Ok(_) => return open(format!("`{coder}` is readable")),
        }
    }
    for coder in ["PNG", "JPEG", "WEBP"] {
        // Nothing but the policy can tell the difference on an empty picture, so the message decides.
        if let Err(error) = read(b"no picture", coder)
            && is_policy_refusal(&error)
        {
            return open(format!("`{coder}` is forbidden, so no picture could be read"));
        }
    }
    Ok(())
}

/// Coders that most installations have, and bytes that only a policy keeps them from reading. Where coders are packaged
/// apart, as SVG is in Debian, some may be missing.
const FORBIDDEN: &[(&str, &[u8])] = &[
    ("MVG", b"viewbox 0 0 1 1\nfill red rectangle 0,0 1,1\n"),
    ("SVG", b"<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'></svg>"),
    ("TXT", b"# ImageMagick pixel enumeration: 1,1,0,255,srgb\n0,0: (255,0,0)\n"),
    (
        "GIF",
        b"GIF89a\x01\x00\x01\x00\x00\x00\x00\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x01\x00\x00\x3b",
    ),
    ("PNM", b"P3 1 1 255 1 2 3\n"),
];

fn is_policy_refusal(error: &ImagingError) -> bool {
    matches!(error, ImagingError::Magick { message, .. } if message.contains("policy"))
}
