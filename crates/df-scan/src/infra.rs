//! Ports that container and compose files open.

use df_contract::facts::PortFact;

use crate::MAX_NAMES;

/// Ports one range may stand for; a wider one is kept as its two ends.
const MAX_RANGE: u16 = 64;

/// Whether the file is one whose ports are read.
pub(crate) fn opens_ports(path: &str) -> bool {
    is_container_file(path) || is_compose_file(path)
}

fn is_container_file(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    ["Dockerfile", "Containerfile"]
        .iter()
        .any(|n| file.starts_with(n) || file.to_lowercase().ends_with(&format!(".{}", n.to_lowercase())))
}

fn is_compose_file(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    let yaml = file.ends_with(".yml") || file.ends_with(".yaml");
    yaml && (file.starts_with("docker-compose") || file.starts_with("compose."))
}

/// Adds the ports of one file.
pub(crate) fn ports(path: &str, text: &str, found: &mut Vec<PortFact>) {
    let mut add = |port| {
        if found.len() < MAX_NAMES {
            found.push(PortFact { port, file: path.to_owned() });
        }
    };
    match is_container_file(path) {
        true => exposed(text).for_each(&mut add),
        false => published(text).into_iter().for_each(&mut add),
    }
}

/// `EXPOSE 8080 9000-9002/tcp`
fn exposed(text: &str) -> impl Iterator<Item = u16> {
    text.lines()
        .filter_map(|line| {
            let (word, rest) = line.trim_start().split_once(char::is_whitespace)?;
            word.eq_ignore_ascii_case("expose").then_some(rest)
        })
        .flat_map(|rest| {
            rest.split('#').next().unwrap_or("").split_whitespace().flat_map(range).collect::<Vec<_>>()
        })
}

/// The items of every `ports:` list, in short form (`"127.0.0.1:8080:80/tcp"`) or long form (`published: 8080`). Read line by line: a compose
/// file needs no more, and a YAML parser is one more thing that hostile input reaches.
fn published(text: &str) -> Vec<u16> {
    let mut found = Vec::new();
    let mut list: Option<usize> = None;
    for line in text.lines() {
        let body = line.trim_start();
        let indent = line.len() - body.len();
        if body.is_empty() || body.starts_with('#') {
            continue;
        }
        if let Some(inline) = body.strip_prefix("ports:") {
            list = Some(indent);
            let items = inline.trim().trim_start_matches('[').trim_end_matches(']');
            items.split(',').for_each(|item| found.extend(short(item)));
            continue;
        }
        let Some(start) = list else { continue };
        match body.strip_prefix('-') {
            Some(item) if indent >= start => found.extend(entry(item)),
            _ if indent > start => found.extend(entry(body)),
            _ => list = None,
        }
    }
    found
}

fn entry(item: &str) -> Vec<u16> {
    let item = item.trim();
    match item.split_once(": ") {
        Some(("published", port)) => short(port),
        Some(_) => Vec::new(),
        None => short(item),
    }
}

/// The host's side of `[ip:]host:container[/protocol]`, or the only port there is.
fn short(item: &str) -> Vec<u16> {
    let item = item.split(" #").next().unwrap_or("").trim().trim_matches(['"', '\'']);
    let parts: Vec<&str> = item.rsplit(':').collect();
    let host = if parts.len() > 1 { parts[1] } else { item };
    range(host)
}

fn range(text: &str) -> Vec<u16> {
    let text = text.split('/').next().unwrap_or("");
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    match (low.parse::<u16>(), high.parse::<u16>()) {
        (Ok(low), Ok(high)) if high >= low && high - low <= MAX_RANGE => (low..=high).collect(),
        (Ok(low), Ok(high)) => vec![low, high],
        (Ok(_), Err(_)) | (Err(_), Ok(_)) | (Err(_), Err(_)) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expect: &[u16]) {
        let mut found = Vec::new();
        ports(path, text, &mut found);
        assert_eq!(found.iter().map(|p| p.port).collect::<Vec<_>>(), expect, "{text}");
    }

    #[test]
    fn ports_are_read_from_container_and_compose_files() {
        check(
            "Dockerfile",
            "FROM x\nEXPOSE 8080 9000-9001/tcp # 22\n expose 53/udp\n# EXPOSE 1\n",
            &[8080, 9000, 9001, 53],
        );
        check("Dockerfile", "EXPOSE $PORT\nEXPOSE 99999\nEXPOSE\n", &[]);
        check(
            "compose.yaml",
            "services:\n  web:\n    ports:\n      - \"127.0.0.1:8080:80\"\n      - 9000\n      - target: 80\n        published: 8443\n    image: x:5\n",
            &[8080, 9000, 8443],
        );
        check("docker-compose.yml", "ports: [\"22:22\", '443:443/tcp']\n", &[22, 443]);
        check("compose.yml", "ports:\n- 1-60000:1-60000\n", &[1, 60000]);
    }
}
