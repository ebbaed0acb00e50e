//! Finds a run of lines in a file, with the tolerance of the reference implementation of the V4A format: exact, then
//! ignoring white space at line ends, then at both ends, then typographic variants of punctuation. Never similarity.

/// How exactly lines must agree, strictest first.
const LEVELS: [fn(&str) -> String; 4] =
    [str::to_owned, |l| l.trim_end().to_owned(), |l| l.trim().to_owned(), |l| plain_punctuation(l.trim())];

fn plain_punctuation(line: &str) -> String {
    line.chars()
        .map(|c| match c {
            '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
            '\u{2018}'..='\u{201b}' => '\'',
            '\u{201c}'..='\u{201f}' => '"',
            '\u{a0}' | '\u{2002}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => ' ',
            other => other,
        })
        .collect()
}

/// Places where `pattern` begins in `lines`, not before `from`, at the strictest level that has any.
pub(crate) fn places(lines: &[String], pattern: &[String], from: usize) -> Vec<usize> {
    if pattern.is_empty() || pattern.len() > lines.len() {
        return Vec::new();
    }
    for level in LEVELS {
        let wanted: Vec<String> = pattern.iter().map(|l| level(l)).collect();
        let found: Vec<usize> = (from..=lines.len() - pattern.len())
            .filter(|at| lines[*at..].iter().zip(&wanted).all(|(line, want)| level(line) == *want))
            .collect();
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strictest_level_that_matches_wins() {
        let lines = |text: &str| text.split('|').map(str::to_owned).collect::<Vec<_>>();
        let file = lines("a|  b|b |“c”—d|b");
        for (pattern, from, expect) in [
            ("b", 0, vec![4]),
            ("b", 5, vec![]),
            ("  b|b", 0, vec![1]),
            ("\"c\"-d", 0, vec![3]),
            ("a|b", 0, vec![0]),
            ("zz", 0, vec![]),
            ("a|b|b|\"c\"-d|b|x", 0, vec![]),
        ] {
            assert_eq!(places(&file, &lines(pattern), from), expect, "{pattern}");
        }
    }
}
