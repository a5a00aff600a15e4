//! The name that a person gives to saved files: tokens, subfolders, and how both become a prefix.

use chrono::{DateTime, Datelike as _, TimeZone, Timelike as _};

/// Replaced per picture, after the other tokens.
const BATCH_NUMBER: &str = "%batch_num%";

/// A prefix whose tokens are replaced, as `subfolder/stem`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePrefix(String);

impl FilePrefix {
    /// Replaces the size and date tokens and tidies the path.
    ///
    /// # Source
    /// Same names as ComfyUI: `%width%`, `%height%`, `%year%` and so on, in local time; `a//b/../c` becomes `a/c`; an
    /// empty prefix becomes `.`. Other `%…%` texts are left for the page, which replaces them before it submits.
    pub fn new<Z: TimeZone>(text: &str, (width, height): (usize, usize), now: &DateTime<Z>) -> Self {
        let tokens = [
            ("%width%", width.to_string()),
            ("%height%", height.to_string()),
            ("%year%", now.year().to_string()),
            ("%month%", format!("{:02}", now.month())),
            ("%day%", format!("{:02}", now.day())),
            ("%hour%", format!("{:02}", now.hour())),
            ("%minute%", format!("{:02}", now.minute())),
            ("%second%", format!("{:02}", now.second())),
        ];
        let replaced = tokens.iter().fold(text.to_owned(), |text, (token, value)| text.replace(token, value));
        Self(tidy(&replaced))
    }

    /// Whether every picture of a batch has a name of its own.
    pub fn is_per_picture(&self) -> bool {
        self.0.contains(BATCH_NUMBER)
    }

    /// Returns the prefix for one picture of a batch, and for what is no batch that of the first.
    pub fn of_picture(&self, index: usize) -> String {
        self.0.replace(BATCH_NUMBER, &index.to_string())
    }
}

/// Drops empty and `.` parts and resolves `..` where a part precedes it. What climbs further is left to be refused.
fn tidy(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    let joined = format!("{root}{}", parts.join("/"));
    if joined.is_empty() { ".".to_owned() } else { joined }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_paths_become_prefixes() {
        let now = chrono::Utc.with_ymd_and_hms(2025, 3, 7, 4, 5, 9).unwrap();
        for (text, expected) in [
            ("ComfyUI", "ComfyUI"),
            ("a/b/x", "a/b/x"),
            ("%year%-%month%-%day%/%hour%%minute%%second%", "2025-03-07/040509"),
            ("x_%width%x%height%", "x_640x480"),
            ("%date:yyyy-MM-dd%/x", "%date:yyyy-MM-dd%/x"),
            ("a//b/./c/../x/", "a/b/x"),
            ("", "."),
            ("../x", "../x"),
            ("a/../../x", "../x"),
            ("/etc/x", "/etc/x"),
        ] {
            assert_eq!(FilePrefix::new(text, (640, 480), &now).of_picture(0), expected, "{text}");
        }
        let batch = FilePrefix::new("p%batch_num%", (1, 1), &now);
        assert!(batch.is_per_picture());
        assert_eq!(batch.of_picture(3), "p3");
    }
}
