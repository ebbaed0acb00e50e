//! Licences: SPDX ids by distinctive sentences of the common texts.

/// The id for a licence file whose text is not recognised.
pub(crate) const UNKNOWN: &str = "LicenseRef-unknown";

/// Bytes of a licence file that are looked at.
const MAX_LICENCE_BYTES: usize = 64 * 1024;

/// A licence and sentences that all occur in its text, in lower case with single spaces. Earlier entries win, so the
/// more particular stand first.
const TEXTS: &[(&str, &[&str])] = &[
    ("AGPL-3.0-only", &["gnu affero general public license", "version 3"]),
    ("LGPL-3.0-only", &["gnu lesser general public license", "version 3"]),
    ("LGPL-2.1-only", &["gnu lesser general public license", "version 2.1"]),
    ("GPL-3.0-only", &["gnu general public license", "version 3"]),
    ("GPL-2.0-only", &["gnu general public license", "version 2"]),
    ("Apache-2.0", &["apache license", "version 2.0"]),
    ("MPL-2.0", &["mozilla public license", "version 2.0"]),
    ("CC0-1.0", &["creative commons", "cc0 1.0 universal"]),
    ("Unlicense", &["this is free and unencumbered software released into the public domain"]),
    ("ISC", &["permission to use, copy, modify, and/or distribute this software", "above copyright notice"]),
    ("0BSD", &["permission to use, copy, modify, and/or distribute this software"]),
    (
        "MIT",
        &[
            "to deal in the software without restriction",
            "the software is provided \"as is\", without warranty",
        ],
    ),
    (
        "BSD-3-Clause",
        &["redistribution and use in source and binary forms", "may be used to endorse or promote products"],
    ),
    ("BSD-2-Clause", &["redistribution and use in source and binary forms"]),
];

/// Whether a path names a licence file of the tree or of a part of it.
pub(crate) fn is_licence_file(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path).to_ascii_uppercase();
    let stem = file.split(['.', '-']).next().unwrap_or("");
    let plain = matches!(file.rsplit_once('.').map_or("", |(_, e)| e), "" | "TXT" | "MD" | "RST")
        || file.contains('-');
    matches!(stem, "LICENSE" | "LICENCE" | "COPYING" | "UNLICENSE") && plain
}

/// The SPDX id of a licence text.
pub(crate) fn recognise(text: &str) -> &'static str {
    let mut end = text.len().min(MAX_LICENCE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let flat = text[..end].to_lowercase().replace(['“', '”'], "\"");
    let flat = flat.split_whitespace().collect::<Vec<_>>().join(" ");
    // Only the beginning says which licence it is: the texts of others are named further down.
    let title: String = flat.chars().take(2_000).collect();
    let fits = |sentences: &&[&str]| match sentences.len() {
        1 => flat.contains(sentences[0]),
        _ => title.contains(sentences[0]) && sentences[1..].iter().all(|s| flat.contains(s)),
    };
    TEXTS.iter().find(|(_, sentences)| fits(sentences)).map_or(UNKNOWN, |(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        assert_eq!(recognise(text), expect, "{text}");
    }

    #[test]
    fn common_licences_are_recognised_by_what_they_say() {
        check(include_str!("../../../LICENSE"), "MIT");
        check("                 Apache License\n           Version 2.0, January 2004", "Apache-2.0");
        check("GNU GENERAL PUBLIC LICENSE\n  Version 3, 29 June 2007\n", "GPL-3.0-only");
        check("GNU GENERAL PUBLIC LICENSE\n  Version 2, June 1991\n", "GPL-2.0-only");
        check("GNU LESSER GENERAL PUBLIC LICENSE\n Version 2.1, February 1999", "LGPL-2.1-only");
        check(
            "Redistribution and use in source and binary forms, with or without modification, are permitted.\n\
             Neither the name of the holder may be used to endorse or promote products derived",
            "BSD-3-Clause",
        );
        check("Redistribution and use in source and binary forms, with or without", "BSD-2-Clause");
        check("All rights reserved. Ask us first.", UNKNOWN);
        check("", UNKNOWN);
    }

    #[test]
    fn licence_files_are_told_from_code_about_licences() {
        for path in ["LICENSE", "licence.md", "vendor/x/COPYING", "LICENSE-MIT", "LICENSE.txt"] {
            assert!(is_licence_file(path), "{path}");
        }
        for path in ["src/license.rs", "license_check.py", "LICENSES.json", "license.json"] {
            assert!(!is_licence_file(path), "{path}");
        }
    }
}
