//! Rust source read as tokens, so that a word in a string or a comment is never taken for code.

use std::ops::RangeInclusive;

use anyhow::anyhow;
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A place in a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Counted from one.
    pub line: usize,
    /// What stands there, as a reader would write it.
    pub what: &'static str,
}

const LEFTOVER_MACROS: [(&str, &str); 3] =
    [("todo", "todo!"), ("unimplemented", "unimplemented!"), ("dbg", "dbg!")];

pub(crate) fn parse(text: &str) -> anyhow::Result<TokenStream> {
    // A shebang line is legal in a source file but is no token.
    let text =
        if text.starts_with("#!/") { text.split_once('\n').map_or("", |(_, rest)| rest) } else { text };
    text.parse().map_err(|error| anyhow!("not readable as Rust: {error}"))
}

/// Unfinished work (`todo!`, `unimplemented!`, `dbg!`) and `allow` attributes.
pub(crate) fn leftovers(stream: TokenStream) -> Vec<Found> {
    let mut found = Vec::new();
    collect_leftovers(stream, &mut found);
    found.sort_by_key(|found| found.line);
    found
}

fn collect_leftovers(stream: TokenStream, found: &mut Vec<Found>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Ident(ident) if is_punct(tokens.get(index + 1), '!') => {
                let called = matches!(tokens.get(index + 2), Some(TokenTree::Group(_)));
                let leftover = LEFTOVER_MACROS.iter().find(|(name, _)| ident == name);
                if let (true, Some((_, what))) = (called, leftover) {
                    found.push(Found { line: ident.span().start().line, what });
                }
            }
            TokenTree::Group(group) if is_attribute(&tokens, index) => {
                if has_allow(group.stream()) {
                    found.push(Found { line: group.span_open().start().line, what: "#[allow(" });
                }
            }
            TokenTree::Group(group) => collect_leftovers(group.stream(), found),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// `#[...]` or `#![...]` with the bracket at `index`.
fn is_attribute(tokens: &[TokenTree], index: usize) -> bool {
    let bracket =
        matches!(&tokens[index], TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket);
    let before = |steps: usize| index.checked_sub(steps).and_then(|at| tokens.get(at));
    bracket && (is_punct(before(1), '#') || (is_punct(before(1), '!') && is_punct(before(2), '#')))
}

/// `allow(...)` anywhere inside an attribute, so that `cfg_attr(test, allow(...))` counts.
fn has_allow(stream: TokenStream) -> bool {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    tokens.iter().enumerate().any(|(index, token)| match token {
        TokenTree::Ident(ident) => {
            ident == "allow" && matches!(tokens.get(index + 1), Some(TokenTree::Group(_)))
        }
        TokenTree::Group(group) => has_allow(group.stream()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// Line ranges of items under `#[cfg(test)]`, outermost only.
pub(crate) fn test_items(stream: TokenStream) -> Vec<RangeInclusive<usize>> {
    let mut ranges = Vec::new();
    collect_test_items(stream, &mut ranges);
    ranges
}

fn collect_test_items(stream: TokenStream, ranges: &mut Vec<RangeInclusive<usize>>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let mut index = 0;
    while index < tokens.len() {
        if let TokenTree::Group(group) = &tokens[index] {
            if is_attribute(&tokens, index) && is_cfg_test(group) {
                let first = group.span_open().start().line;
                let end = item_end(&tokens, index + 1);
                ranges.push(first..=tokens[end].span().end().line);
                index = end;
            } else {
                collect_test_items(group.stream(), ranges);
            }
        }
        index += 1;
    }
}

fn is_cfg_test(attribute: &Group) -> bool {
    let text: String = attribute.stream().to_string().split_whitespace().collect();
    text == "cfg(test)"
}

/// An item ends with its first braces, or with a semicolon before any.
fn item_end(tokens: &[TokenTree], start: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    };
    (start..tokens.len()).find(|at| ends(&tokens[*at])).unwrap_or(tokens.len() - 1)
}

fn is_punct(token: Option<&TokenTree>, expected: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, expected: &[(usize, &str)]) {
        let found = leftovers(parse(source).unwrap());
        let found: Vec<(usize, &str)> = found.iter().map(|found| (found.line, found.what)).collect();
        assert_eq!(found, expected, "{source}");
    }

    #[test]
    fn leftover_macros_are_found_at_any_depth() {
        check("fn a() { if x { todo!() } }", &[(1, "todo!")]);
        check(
            "fn a() {\n  let y = vec![dbg!(1)];\n  unimplemented![]\n}",
            &[(2, "dbg!"), (3, "unimplemented!")],
        );
    }

    #[test]
    fn allow_attributes_are_found_in_every_form() {
        check("#[allow(dead_code)] fn a() {}", &[(1, "#[allow(")]);
        check("#![allow(dead_code)]\nfn a() {}", &[(1, "#[allow(")]);
        check("fn a() {\n  #[cfg_attr(test, allow(dead_code))]\n  let x = 1;\n}", &[(2, "#[allow(")]);
    }

    #[test]
    fn words_in_strings_comments_and_names_are_not_code() {
        check("// todo!()\n/// #[allow(x)]\nfn todo() -> bool { let allow = 1; \"dbg!(1)\" != todo }", &[]);
        check("#[expect(dead_code, reason = \"allow(x)\")] fn a() { allow(1) }", &[]);
    }

    #[test]
    fn test_items_span_their_attribute_to_their_closing_brace() {
        let ranges = |source: &str| test_items(parse(source).unwrap());
        assert_eq!(
            ranges("fn a() {}\n#[cfg(test)]\n#[path = \"x\"]\nmod tests {\n  fn b() {}\n}\n"),
            [2..=6]
        );
        assert_eq!(ranges("#[cfg(test)]\nmod tests;\nfn a() {\n}\n"), [1..=2]);
        assert_eq!(ranges("mod m {\n#[cfg(test)]\nfn f() {}\n}\n"), [2..=3]);
        assert_eq!(ranges("#[cfg(unix)]\nmod tests {}\n"), []);
    }
}
