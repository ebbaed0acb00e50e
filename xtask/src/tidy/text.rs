//! Rules for every text file: size, stray white space, words that belong to a machine and not to the project.

/// A file of code longer than this is refused.
const MAX_LINES: usize = 800;
/// A file of code longer than this is listed: it may be right, but somebody should look.
const LONG_LINES: usize = 400;

const CODE_EXTENSIONS: [&str; 9] = ["rs", "rego", "sql", "sh", "py", "js", "ts", "css", "html"];

/// Where a line's end may carry meaning: patches are data.
const WHITESPACE_EXEMPT: [&str; 2] = ["patch", "diff"];

/// Spelled in two halves so that this file passes its own rule.
const FORBIDDEN: [(&str, &str); 3] = [
    (concat!("/wo", "rk/"), "a path of one developer's machine"),
    (concat!("/ro", "ot/"), "a home directory; tests make their own"),
    (concat!("FIX", "ME"), "unfinished work belongs in an issue"),
];

/// Folders whose subject is one of these words.
const EXEMPT: [(&str, &str); 1] = [("crates/df-sandbox/tests/", FORBIDDEN[1].0)];

/// `None` for a binary file.
pub(super) fn decode(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

pub(super) fn check(path: &str, content: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let lines = content.lines().count();
    if is_code(path) && lines > MAX_LINES {
        problems.push(format!("{path}: {lines} lines; {MAX_LINES} is the limit, split it by subject"));
    }
    let keeps_white_space = WHITESPACE_EXEMPT.contains(&extension(path));
    // Split by hand: `lines` would hide a carriage return.
    for (index, line) in content.split('\n').enumerate() {
        let number = index + 1;
        if !keeps_white_space && line.ends_with([' ', '\t', '\r']) {
            problems.push(format!("{path}:{number}: white space at the end of the line"));
        }
        for (word, why) in FORBIDDEN.iter().filter(|(word, _)| line.contains(word) && !is_exempt(path, word))
        {
            problems.push(format!("{path}:{number}: `{word}` is {why}"));
        }
    }
    problems
}

/// A note about a file that is long but not over the limit.
pub(super) fn long_file(path: &str, content: &str) -> Option<String> {
    let lines = content.lines().count();
    let long = is_code(path) && lines > LONG_LINES && lines <= MAX_LINES;
    long.then(|| format!("note: {path}: {lines} lines"))
}

fn is_exempt(path: &str, word: &str) -> bool {
    EXEMPT.iter().any(|(folder, exempt)| path.starts_with(folder) && word == *exempt)
}

fn is_code(path: &str) -> bool {
    CODE_EXTENSIONS.contains(&extension(path))
}

fn extension(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_inclusive_and_spares_other_files() {
        let at = "x\n".repeat(MAX_LINES);
        let over = "x\n".repeat(MAX_LINES + 1);
        assert!(check("a.rs", &at).is_empty());
        assert!(long_file("a.rs", &at).is_some());
        assert_eq!(check("a.rs", &over), ["a.rs: 801 lines; 800 is the limit, split it by subject"]);
        assert!(long_file("a.rs", &over).is_none(), "reported once, as a problem");
        assert!(check("Cargo.lock", &over).is_empty());
        assert!(long_file("a.rs", &"x\n".repeat(LONG_LINES)).is_none());
    }

    #[test]
    fn white_space_at_the_end_is_found_by_line() {
        assert_eq!(check("a.md", "x\ny \nz\t\n").len(), 2);
        assert_eq!(check("a.md", "x \n"), ["a.md:1: white space at the end of the line"]);
        assert!(check("a.patch", "x \n").is_empty());
    }

    #[test]
    fn windows_line_ends_are_refused() {
        assert_eq!(check("a.md", "x\r\ny\n"), ["a.md:1: white space at the end of the line"]);
    }

    #[test]
    fn forbidden_words_are_found_anywhere() {
        for (word, _) in FORBIDDEN {
            let found = check("docs/a.md", &format!("fine\nsee {word}here\n"));
            assert_eq!(found.len(), 1, "{word}");
            assert!(found[0].starts_with("docs/a.md:2: "), "{found:?}");
        }
        assert!(check("a.yml", ".github/workflows/ci.yml and /workspace/x\n").is_empty());
    }

    #[test]
    fn an_exemption_covers_its_folder_and_its_word_only() {
        let (folder, word) = EXEMPT[0];
        let text = format!("{word}.ssh\n");
        assert!(check(&format!("{folder}files.rs"), &text).is_empty());
        assert_eq!(check("crates/df-agent/tests/files.rs", &text).len(), 1);
        assert_eq!(check(&format!("{folder}files.rs"), FORBIDDEN[0].0).len(), 1);
    }

    #[test]
    fn binary_content_is_not_decoded() {
        assert_eq!(decode(b"a\0b"), None);
        assert_eq!(decode(&[0xff, 0xfe]), None);
        assert_eq!(decode("ภาษาไทย".as_bytes()), Some("ภาษาไทย"));
    }
}
