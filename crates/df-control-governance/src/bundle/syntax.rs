//! What may stand in a policy, checked on the syntax tree before anything is evaluated.
//!
//! - Functions: those on a list of deterministic builtins, and those the bundle defines itself.
//! - `with`: only in tests and only on `input`, so that no builtin can be put in another's place.
//! - `input.…`: only facts that exist. In Rego a misspelt fact is undefined and its rule silently never fires.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{BundleError, Pack, output};

/// Builtins whose result depends on their arguments alone. Everything else is refused, known or not.
const BUILTINS: [&str; 66] = [
    "abs",
    "array.concat",
    "array.reverse",
    "array.slice",
    "bits.and",
    "bits.lsh",
    "bits.negate",
    "bits.or",
    "bits.rsh",
    "bits.xor",
    "ceil",
    "concat",
    "contains",
    "count",
    "endswith",
    "floor",
    "format_int",
    "indexof",
    "indexof_n",
    "intersection",
    "is_array",
    "is_boolean",
    "is_null",
    "is_number",
    "is_object",
    "is_set",
    "is_string",
    "json.is_valid",
    "json.marshal",
    "json.unmarshal",
    "lower",
    "max",
    "min",
    "numbers.range",
    "object.filter",
    "object.get",
    "object.keys",
    "object.remove",
    "object.subset",
    "object.union",
    "object.union_n",
    "product",
    "regex.is_valid",
    "regex.match",
    "regex.replace",
    "regex.split",
    "replace",
    "round",
    "semver.compare",
    "semver.is_valid",
    "sort",
    "split",
    "sprintf",
    "startswith",
    "strings.any_prefix_match",
    "strings.any_suffix_match",
    "strings.count",
    "strings.reverse",
    "substring",
    "sum",
    "to_number",
    "trim",
    "trim_space",
    "type_name",
    "union",
    "upper",
];

/// One file, as parsed.
pub(super) struct Module {
    path: String,
    package: String,
    tree: Value,
    /// (alias, path) of every import.
    imports: Vec<(String, String)>,
}

impl Module {
    fn is_test(&self) -> bool {
        self.path.ends_with("_test.rego")
    }

    fn heads(&self) -> impl Iterator<Item = (&str, String)> {
        let rules = self.tree["rules"].as_array().map_or(&[][..], Vec::as_slice);
        rules.iter().filter_map(|rule| {
            let (kind, refr) = match rule.get("Spec") {
                Some(spec) => {
                    spec["head"].as_object()?.iter().next().map(|(k, h)| (k.as_str(), &h["refr"]))?
                }
                None => ("Default", &rule.get("Default")?["refr"]),
            };
            Some((kind, dotted(refr)?))
        })
    }

    /// Full paths of the test rules.
    pub(super) fn tests(&self) -> Vec<String> {
        let names = self.heads().filter(|(_, name)| self.is_test() && name.starts_with("test_"));
        names.map(|(_, name)| format!("data.{}.{name}", self.package)).collect()
    }
}

/// Reads the syntax trees out of the engine.
pub(super) fn read(engine: &regorus::Engine) -> Result<Vec<Module>, BundleError> {
    let json = engine.get_ast_as_json().map_err(|e| BundleError::Prepare(e.to_string()))?;
    let trees: Vec<Value> = serde_json::from_str(&json).map_err(|e| BundleError::Prepare(e.to_string()))?;
    trees
        .into_iter()
        .map(|mut tree| {
            let path = tree["source"]["file"].as_str().unwrap_or_default().to_owned();
            let tree = tree["ast"].take();
            let odd = |what: &str| BundleError::Syntax { path: path.clone(), why: format!("odd {what}") };
            let package = dotted(&tree["package"]["refr"]).ok_or_else(|| odd("package"))?;
            let mut imports = Vec::new();
            for import in tree["imports"].as_array().map_or(&[][..], Vec::as_slice) {
                let target = dotted(&import["refr"]).ok_or_else(|| odd("import"))?;
                if import.get("as").is_some_and(|a| !a.is_null()) {
                    return Err(odd("import: give it no other name"));
                }
                let alias = target.rsplit('.').next().unwrap_or_default().to_owned();
                imports.push((alias, target));
            }
            Ok(Module { path, package, tree, imports })
        })
        .collect()
}

/// Checks every module and lists the packs.
pub(super) fn check(modules: &[Module]) -> Result<Vec<Pack>, BundleError> {
    let functions: BTreeSet<String> = modules
        .iter()
        .flat_map(|m| {
            let of_module = m.heads().filter(|(kind, _)| *kind == "Func");
            of_module.map(|(_, name)| format!("data.{}.{name}", m.package)).collect::<Vec<_>>()
        })
        .collect();
    let shape = crate::shape::input_shape();
    let mut names = BTreeSet::new();
    for module in modules {
        names.insert(pack_of(module)?.to_owned());
        Walk { module, functions: &functions, shape: &shape, line: 0 }.value(&module.tree)?;
    }
    names
        .into_iter()
        .map(|name| {
            let package = format!("devfactory.{name}");
            let of_pack = modules.iter().filter(|m| m.package == package && !m.is_test());
            let defined: BTreeSet<String> = of_pack.flat_map(|m| m.heads().map(|(_, n)| n)).collect();
            let outputs: BTreeSet<String> =
                output::OUTPUTS.iter().map(|o| (*o).to_owned()).filter(|o| defined.contains(o)).collect();
            if outputs.is_empty() {
                Err(BundleError::NoOutput { pack: name })
            } else {
                Ok(Pack { name, outputs })
            }
        })
        .collect()
}

/// The pack a file belongs to, by its folder; its package must agree.
fn pack_of(module: &Module) -> Result<&str, BundleError> {
    let path = &module.path;
    let plain = |s: &str| {
        !s.is_empty() && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let pack = match path.split_once('/') {
        Some((pack, rest)) if plain(pack) && !pack.ends_with("_test") && rest.ends_with(".rego") => pack,
        _ => return Err(BundleError::Path { path: path.clone() }),
    };
    let own = format!("devfactory.{pack}");
    let fits = match module.is_test() {
        true => module.package == format!("{own}_test"),
        false => module.package == own || module.package.starts_with(&format!("{own}.")),
    };
    if fits {
        return Ok(pack);
    }
    Err(BundleError::Package { path: path.clone(), package: module.package.clone(), pack: pack.to_owned() })
}

/// `a.b["c"]` as `a.b.c`; none when a part is not known beforehand.
fn dotted(expr: &Value) -> Option<String> {
    let (parts, whole) = chain(expr)?;
    whole.then(|| parts.join("."))
}

/// The parts of a reference from its root on, up to the first that is not a plain name, and whether that was all.
fn chain(expr: &Value) -> Option<(Vec<String>, bool)> {
    if let Some(var) = expr.get("Var") {
        return Some((vec![var["value"].as_str()?.to_owned()], true));
    }
    let (node, part) = match (expr.get("RefDot"), expr.get("RefBrack")) {
        (Some(dot), _) => (dot, dot["field"].get(1).and_then(Value::as_str)),
        (None, Some(brack)) => (brack, brack["index"]["String"]["value"].as_str()),
        (None, None) => return None,
    };
    let (mut parts, whole) = chain(&node["refr"])?;
    match (whole, part) {
        (true, Some(part)) => {
            parts.push(part.to_owned());
            Some((parts, true))
        }
        _ => Some((parts, false)),
    }
}

struct Walk<'a> {
    module: &'a Module,
    functions: &'a BTreeSet<String>,
    shape: &'a Value,
    line: u64,
}

impl Walk<'_> {
    fn value(&mut self, value: &Value) -> Result<(), BundleError> {
        match value {
            Value::Array(items) => items.iter().try_for_each(|v| self.value(v)),
            Value::Object(map) => {
                if let Some(line) = map.get("span").and_then(|s| s["line"].as_u64()) {
                    self.line = line;
                }
                if let Some(call) = map.get("Call") {
                    self.line = call["span"]["line"].as_u64().unwrap_or(self.line);
                    self.call(&call["fcn"])?;
                }
                if let Some(mods) = map.get("with_mods").and_then(Value::as_array) {
                    mods.iter().try_for_each(|m| self.with(m))?;
                }
                if map.contains_key("RefDot") || map.contains_key("RefBrack") {
                    self.reference(value)?;
                }
                map.values().try_for_each(|v| self.value(v))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }

    fn forbidden(&self, name: String, why: &'static str) -> BundleError {
        BundleError::Forbidden { path: self.module.path.clone(), line: self.line, name, why }
    }

    fn call(&self, function: &Value) -> Result<(), BundleError> {
        let name = dotted(function)
            .ok_or_else(|| self.forbidden("a computed function".into(), "functions are called by name"))?;
        let (first, rest) = name.split_once('.').map_or((name.as_str(), ""), |(f, r)| (f, r));
        let imported = self
            .module
            .imports
            .iter()
            .find(|(alias, _)| alias == first)
            .map(|(_, target)| if rest.is_empty() { target.clone() } else { format!("{target}.{rest}") });
        let own = format!("data.{}.{name}", self.module.package);
        let defined = [Some(own), imported, Some(name.clone())].into_iter().flatten();
        if defined.into_iter().any(|path| self.functions.contains(&path)) || BUILTINS.contains(&name.as_str())
        {
            return Ok(());
        }
        Err(self
            .forbidden(name, "it is no function of the bundle and not on the list of deterministic builtins"))
    }

    fn with(&self, modifier: &Value) -> Result<(), BundleError> {
        let target = dotted(&modifier["refr"]).unwrap_or_default();
        let on_input = target == "input" || target.starts_with("input.");
        if self.module.is_test() && on_input {
            return Ok(());
        }
        Err(self.forbidden(format!("with {target}"), "`with` stands in tests, on input"))
    }

    /// Follows `input.a.b` through the shape of the input as far as its names are known.
    fn reference(&self, expr: &Value) -> Result<(), BundleError> {
        let Some((mut parts, _)) = chain(expr) else { return Ok(()) };
        if let Some((_, target)) = self.module.imports.iter().find(|(alias, _)| *alias == parts[0]) {
            parts.splice(..1, target.split('.').map(str::to_owned));
        }
        if parts.first().map(String::as_str) != Some("input") {
            return Ok(());
        }
        let mut here = self.shape;
        for part in &parts[1..] {
            match here {
                Value::Object(fields) => match fields.get(part) {
                    Some(next) => here = next,
                    None => {
                        return Err(BundleError::UnknownFact {
                            path: self.module.path.clone(),
                            line: self.line,
                            fact: parts.join("."),
                        });
                    }
                },
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => break,
            }
        }
        Ok(())
    }
}
