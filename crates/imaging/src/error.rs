//! What can go wrong with a picture, by what the caller can do about it.

use crate::header::Format;

/// The crate's result.
pub type Result<T> = std::result::Result<T, ImagingError>;

/// Says why a picture was not read, written or resized.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ImagingError {
    /// The bytes are another kind of file.
    #[error("found {found}; accepted formats are PNG, JPEG and WebP")]
    UnsupportedFormat { found: &'static str },

    /// The header announces more than the limits allow; nothing was decoded.
    #[error("picture {what} is {found}, the limit is {limit}")]
    TooLarge { what: &'static str, found: u64, limit: u64 },

    /// The file breaks the rules of its format: cut short, bit-flipped or made up.
    #[error("broken {format} file: {reason}")]
    Malformed { format: Format, reason: String },

    /// A pixel buffer does not have the size its width, height and channels ask for.
    #[error(
        "pixel buffer holds {found} samples where {width}x{height} with {channels} channels needs {expected}"
    )]
    BufferLength { width: usize, height: usize, channels: usize, expected: usize, found: usize },

    /// An argument is outside what the function accepts.
    #[error("`{name}` is `{found}`; expected {expected}")]
    InvalidArgument { name: &'static str, found: String, expected: &'static str },

    /// ImageMagick reported a failure.
    #[error("imagemagick could not {action}: {message}")]
    Magick { action: &'static str, message: String },

    /// ImageMagick would read formats or start programs that a strict policy forbids.
    #[error(
        "imagemagick's policy is too open: {reason}; set `MAGICK_CONFIGURE_PATH` to a folder with the strict `policy.xml`"
    )]
    PolicyTooOpen { reason: String },
}

impl ImagingError {
    pub(crate) fn malformed(format: Format, reason: impl Into<String>) -> Self {
        Self::Malformed { format, reason: reason.into() }
    }

    pub(crate) fn magick(action: &'static str, message: impl Into<String>) -> Self {
        Self::Magick { action, message: message.into() }
    }
}
