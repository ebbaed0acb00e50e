use super::*;

fn check(path: &str, text: &str, expect: &[&str]) {
    let mut facts = SourceFacts::default();
    kind(path).unwrap().read(path, text, &mut facts).unwrap();
    let mut got: Vec<String> =
        facts.dependencies.iter().map(|d| format!("{}:{} {}", d.ecosystem, d.name, d.requirement)).collect();
    let mut expect = expect.to_vec();
    got.sort();
    expect.sort_unstable();
    assert_eq!(got, expect, "{path}");
    assert!(facts.manifests.contains(path));
}

fn refuse(path: &str, text: &str, expect: &str) {
    let mut facts = SourceFacts::default();
    let why = kind(path).unwrap().read(path, text, &mut facts).unwrap_err().to_string();
    assert!(why.contains(expect), "{why}");
    assert!(facts.dependencies.is_empty());
}

#[test]
fn python() {
    check(
        "requirements-dev.txt",
        "# tools\nFlask[async]>=3,<4 ; python_version > '3.9'\nPy.YAML==6.0 --hash=sha256:ab\n-r base.txt\n-e git+https://example.org/x\nname @ https://example.org/w.whl\n./local.whl\n",
        &[
            "pypi:flask >=3,<4",
            "pypi:py-yaml ==6.0",
            "pypi:git+https://example.org/x ",
            "pypi:name @ https://example.org/w.whl",
            "pypi:./local.whl ",
        ],
    );
    check(
        "pyproject.toml",
        "[build-system]\nrequires = ['hatchling']\n[project]\nname='x'\ndependencies=['httpx>=0.27']\n[project.optional-dependencies]\ndev=['pytest']\n[dependency-groups]\nlint=['ruff', {include-group='dev'}]\n[tool.poetry.dependencies]\npython='^3.11'\nrich={version='^13'}\n",
        &["pypi:httpx >=0.27", "pypi:pytest ", "pypi:hatchling ", "pypi:ruff ", "pypi:rich ^13"],
    );
}

#[test]
fn npm() {
    check(
        "package.json",
        r#"{"dependencies":{"react":"^19"},"devDependencies":{"@types/node":"22"}}"#,
        &["npm:react ^19", "npm:@types/node 22"],
    );
    check(
        "web/package-lock.json",
        r#"{"lockfileVersion":3,"packages":{"":{"name":"app"},"node_modules/a":{"version":"1.0.0"},"node_modules/a/node_modules/@s/b":{"version":"2.0.0"},"node_modules/alias":{"name":"real","version":"3.0.0"}}}"#,
        &["npm:a 1.0.0", "npm:@s/b 2.0.0", "npm:real 3.0.0"],
    );
    refuse("package-lock.json", r#"{"lockfileVersion":1}"#, "version 1");
    refuse("package.json", "[1]", "not valid JSON");
}

#[test]
fn cargo() {
    check(
        "Cargo.toml",
        "[dependencies]\nserde='1'\nours={path='../x'}\nrenamed={package='real',version='2'}\n[target.'cfg(unix)'.dependencies]\nlibc='0.2'\n[workspace.dependencies]\nanyhow='1'\n",
        &["cargo:serde 1", "cargo:real 2", "cargo:anyhow 1", "cargo:libc 0.2"],
    );
    check(
        "Cargo.lock",
        "version = 4\n[[package]]\nname='app'\nversion='0.1.0'\n[[package]]\nname='serde'\nversion='1.0.200'\nsource='registry+https://example.org'\n",
        &["cargo:serde 1.0.200"],
    );
    refuse("Cargo.toml", "[dependencies\n", "not valid TOML");
    refuse("Cargo.toml", &"a=[".repeat(100_000), "nested too deeply");
}

#[test]
fn go() {
    check(
        "go.mod",
        "module example.org/x\ngo 1.23\nrequire github.com/a/b v1.2.3\nrequire (\n\tgolang.org/x/text v0.3.0 // indirect\n)\n",
        &["go:github.com/a/b v1.2.3", "go:golang.org/x/text v0.3.0"],
    );
}

#[test]
fn declared_licences_are_kept_with_their_file() {
    let mut facts = SourceFacts::default();
    for (path, text) in [
        ("Cargo.toml", "[package]\nname='x'\nlicense='MIT OR Apache-2.0'\n"),
        ("package.json", r#"{"license":{"type":"ISC"}}"#),
        ("pyproject.toml", "[project]\nlicense='BSD-3-Clause'\n"),
    ] {
        kind(path).unwrap().read(path, text, &mut facts).unwrap();
    }
    assert_eq!(facts.licences["Cargo.toml"], "MIT OR Apache-2.0");
    assert_eq!(facts.licences["package.json"], "ISC");
    assert_eq!(facts.licences["pyproject.toml"], "BSD-3-Clause");
}
