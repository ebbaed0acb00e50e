//! File names that must not reach a host tool.

use super::Refusal;

/// Accepts one path component.
pub(super) fn check(name: &[u8]) -> Result<(), Refusal> {
    let name = std::str::from_utf8(name).map_err(|_| Refusal::NotUtf8)?;
    if name.chars().any(char::is_control) {
        return Err(Refusal::ControlCharacter);
    }
    if is_git_name(name) {
        return Err(Refusal::GitDirectory);
    }
    Ok(())
}

/// Whether some file system takes one path component for `.git`. The spellings that git itself guards against: case,
/// trailing dots and spaces and streams (NTFS), its short name, and code points that HFS+ ignores.
pub fn is_git_name(name: &str) -> bool {
    let visible: String = name.chars().filter(|c| !ignorable(*c)).collect();
    let stem = visible.split(':').next().unwrap_or_default().trim_end_matches(['.', ' ']);
    stem.eq_ignore_ascii_case(".git") || stem.eq_ignore_ascii_case("git~1")
}

fn ignorable(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged() {
        let ordinary =
            ["a", "-rf", ".gitignore", ".github", "..git", "git", "ünï", "a b", "git~10", ".gitattributes"];
        for name in ordinary {
            assert_eq!(check(name.as_bytes()), Ok(()), "{name}");
        }
        for name in [".git", ".GIT", ".git. ", "GIT~1", ".g\u{200c}it", ".git::$INDEX_ALLOCATION"] {
            assert_eq!(check(name.as_bytes()), Err(Refusal::GitDirectory), "{name}");
        }
        for name in ["a\nb", "\u{1b}[2J", "a\u{7f}", "\u{85}"] {
            assert_eq!(check(name.as_bytes()), Err(Refusal::ControlCharacter), "{name:?}");
        }
        assert_eq!(check(b"\xff"), Err(Refusal::NotUtf8));
    }
}
