//! Tables inside pages that people write: the text between two markers comes from the code.

use std::fmt::Write as _;

use anyhow::bail;
use df_contract::ErrorCode;

use super::Generated;
use crate::workspace::Workspace;

/// One generated part of one page.
struct Part {
    page: &'static str,
    /// Stands in both markers.
    name: &'static str,
    render: fn() -> String,
}

const PARTS: [Part; 3] = [
    Part { page: "docs/errors/README.md", name: "error codes", render: error_codes },
    Part {
        page: "docs/workflow.md",
        name: "transitions",
        render: df_control_machine::table::render_markdown,
    },
    Part { page: "docs/workflow.md", name: "failures", render: df_control_machine::retry::render_markdown },
];

pub(super) fn all(workspace: &Workspace) -> anyhow::Result<Vec<Generated>> {
    let mut pages: Vec<Generated> = Vec::new();
    for part in &PARTS {
        match pages.iter_mut().find(|page| page.path == part.page) {
            Some(page) => page.text = splice(part, &page.text)?,
            None => {
                let text = splice(part, &workspace.read_text(part.page)?)?;
                pages.push(Generated { path: part.page.to_owned(), text });
            }
        }
    }
    Ok(pages)
}

fn error_codes() -> String {
    let mut table = String::from("| code | HTTP | title |\n|---|---|---|\n");
    for code in ErrorCode::ALL {
        let (name, status, title) = (code.code(), code.http_status(), code.title());
        let _ = writeln!(table, "| [`{name}`]({name}.md) | {status} | {title} |");
    }
    table
}

/// Replaces what stands between a part's markers, which must be present once each and in order.
fn splice(part: &Part, present: &str) -> anyhow::Result<String> {
    let begin = format!("<!-- generated: {} (cargo xtask codegen) -->", part.name);
    let end = format!("<!-- end generated: {} -->", part.name);
    let pieces: Vec<&str> = present.split(&begin).collect();
    let [before, rest] = pieces[..] else { bail!("{} must contain the line `{begin}` once", part.page) };
    let pieces: Vec<&str> = rest.split(&end).collect();
    let [_, after] = pieces[..] else {
        bail!("{} must contain the line `{end}` once, below the other", part.page)
    };
    Ok(format!("{before}{begin}\n\n{}\n\n{end}{after}", (part.render)().trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: Part = Part { page: "a.md", name: "x", render: || "| a |\n".to_owned() };
    const BEGIN: &str = "<!-- generated: x (cargo xtask codegen) -->";
    const END: &str = "<!-- end generated: x -->";

    #[test]
    fn splicing_keeps_what_people_wrote_and_settles() {
        let page = format!("# Title\n\n{BEGIN}\nold\n{END}\n\nmore\n");
        let once = splice(&PART, &page).unwrap();
        assert_eq!(once, format!("# Title\n\n{BEGIN}\n\n| a |\n\n{END}\n\nmore\n"));
        assert_eq!(splice(&PART, &once).unwrap(), once);
    }

    #[test]
    fn missing_doubled_or_reversed_markers_are_refused() {
        for page in [
            "no markers".to_owned(),
            format!("{BEGIN}\n"),
            format!("{END}\n{BEGIN}\n"),
            format!("{BEGIN}\n{END}\n{BEGIN}\n{END}\n"),
        ] {
            assert!(splice(&PART, &page).is_err(), "{page}");
        }
    }

    #[test]
    fn every_error_code_has_a_row() {
        let table = error_codes();
        assert_eq!(table.lines().count(), ErrorCode::ALL.len() + 2);
        assert!(table.contains("| [`four_eyes`](four_eyes.md) | 403 |"), "{table}");
    }
}
