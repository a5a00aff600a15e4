//! The bytes of a pickle, read once from front to back.

use crate::error::{Error, Result, check_limit};
use crate::limits::{MAX_LINE_BYTES, MAX_PICKLE_BYTES, MAX_TEXT_BYTES};
use std::io::BufRead;

/// A reader that counts, and stops at the size limit.
pub(crate) struct Source<R> {
    inner: R,
    consumed: u64,
}

impl<R: BufRead> Source<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, consumed: 0 }
    }

    /// Bytes read so far.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    fn count(&mut self, bytes: u64) -> Result<()> {
        self.consumed = self.consumed.saturating_add(bytes);
        check_limit("bytes of names and shapes", self.consumed, MAX_PICKLE_BYTES)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.count(N as u64)?;
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// Reads a length and that many bytes; the length is checked before memory is taken.
    pub(crate) fn take(&mut self, length: u64) -> Result<Vec<u8>> {
        check_limit("bytes in one text", length, MAX_TEXT_BYTES)?;
        self.count(length)?;
        let mut bytes = vec![0; length as usize];
        self.inner.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Passes over bytes without keeping them.
    pub(crate) fn skip(&mut self, length: u64) -> Result<()> {
        self.count(length)?;
        let mut left = length;
        while left > 0 {
            let there = self.inner.fill_buf()?.len() as u64;
            if there == 0 {
                return Err(Error::damaged("it ends too early"));
            }
            let step = there.min(left);
            self.inner.consume(step as usize);
            left -= step;
        }
        Ok(())
    }

    /// Reads up to a line feed, which is left out.
    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => break,
                byte if line.len() < MAX_LINE_BYTES => line.push(byte),
                _ => return Err(Error::Limit { what: "bytes in one line", limit: MAX_LINE_BYTES as u64 }),
            }
        }
        String::from_utf8(line).map_err(|_| Error::damaged("a line is not UTF-8"))
    }
}
