//! What models are told about the tools: JSON Schemas, always in the same order and form, so that conversations can be
//! recorded and replayed.

use serde_json::{Value, json};

use super::Tool;

/// The `tools` of a chat completion request. `names_agents`: a plan may name registered agents.
pub(crate) fn definitions(tools: &[Tool], names_agents: bool) -> Value {
    tools.iter().map(|tool| definition(*tool, names_agents)).collect()
}

fn definition(tool: Tool, names_agents: bool) -> Value {
    let (description, parameters) = match tool {
        Tool::Read => (
            "Reads a text file; lines are shown with their numbers and a tab, which are not part of the file. A long file is read in parts with offset (first line, from 1) and limit (number of lines). `log:N` reads the full output of an earlier command.",
            object(
                json!({"path": text(), "offset": number("first line, from 1"), "limit": number("number of lines")}),
                &["path"],
            ),
        ),
        Tool::Write => (
            "Writes a whole file, making missing directories. An existing file must have been read before.",
            object(json!({"path": text(), "content": text()}), &["path", "content"]),
        ),
        Tool::Edit => (
            "Replaces `old` by `new` in a file that has been read. `old` must be exactly as in the file, white space included, and occur once, unless replace_all is true.",
            object(
                json!({"path": text(), "old": text(), "new": text(), "replace_all": {"type": "boolean"}}),
                &["path", "old", "new"],
            ),
        ),
        Tool::ApplyPatch => (
            "Applies a patch to one or more files, all or nothing. Format: `*** Begin Patch`, then sections `*** Add File: PATH` (lines with +), `*** Delete File: PATH`, `*** Update File: PATH` (optionally `*** Move to: PATH`, then hunks: optional `@@ LINE` naming a line before the hunk, context lines with a leading space, - removed, + added), then `*** End Patch`. No line numbers.",
            object(json!({"patch": text()}), &["patch"]),
        ),
        Tool::Glob => (
            "Lists files whose path matches a pattern such as `src/**/*.py`, sorted. Ignored files are left out.",
            object(json!({"pattern": text()}), &["pattern"]),
        ),
        Tool::Grep => (
            "Searches text files for a regular expression; answers `path:line: text`, sorted. `path` limits it to a file or directory, `glob` to matching paths.",
            object(json!({"pattern": text(), "path": text(), "glob": text()}), &["pattern"]),
        ),
        Tool::Exec => (
            "Runs a command with `sh -c` in /workspace inside the sandbox: no network, nothing survives but files. Shows the exit code and the output; of a long output the middle is left out and the whole is kept as a log.",
            object(
                json!({"command": text(), "timeout_s": number("seconds; 120 when left out")}),
                &["command"],
            ),
        ),
        Tool::Finish => (
            "Ends the task. Runs the task's checks first; if one fails or an expected file is missing, you get the output and go on working.",
            object(
                json!({
                    "summary": {"type": "string", "description": "what was done and what the next agents should know, in a few sentences"},
                    "commit_message": {"type": "string", "description": "`area: imperative subject` of at most 72 characters, an empty line, then why"},
                }),
                &["summary", "commit_message"],
            ),
        ),
        Tool::ProposePlan => (
            "Proposes the plan and ends the work. If the plan breaks a rule you get the reasons and propose again.",
            object(json!({"plan": plan(names_agents)}), &["plan"]),
        ),
    };
    json!({"type": "function", "function": {"name": tool.as_str(), "description": description, "parameters": parameters}})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn number(description: &str) -> Value {
    json!({"type": "integer", "minimum": 1, "description": description})
}

fn list(of: Value, description: &str) -> Value {
    json!({"type": "array", "items": of, "description": description})
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// [`df_contract::Plan`], written by hand without references, which many servers do not follow. Shares of money and what
/// becomes of the job when a task fails are for people to set, so a coordinator is not shown them.
fn plan(names_agents: bool) -> Value {
    let check = object(
        json!({
            "id": {"type": "string", "description": "short name, lower case"},
            "command": {"type": "string", "description": "run by sh -c at the root of the tree; must exit 0"},
            "timeout_ms": {"type": "integer", "minimum": 1},
        }),
        &["id", "command"],
    );
    let mut task = object(
        json!({
            "slug": {"type": "string", "description": "lower-case letters, digits, single hyphens; at most 48"},
            "role": {"type": "string", "enum": ["backend", "frontend", "devops", "qa"]},
            "title": text(),
            "instructions": {"type": "string", "description": "all the agent needs to know; it sees no other task's instructions"},
            "depends_on": list(text(), "slugs of the tasks whose result this one needs"),
            "paths": list(text(), "globs of the files this task may write"),
            "expected_outputs": list(text(), "files that must exist afterwards"),
            "checks": list(check, "commands that must pass in this task's tree"),
            "tokens": number("this task's share of the tokens; usually left out"),
        }),
        &["slug", "role", "title", "instructions", "paths"],
    );
    if names_agents {
        let properties = &mut task["properties"];
        properties["role"]["enum"] = json!(["backend", "frontend", "devops", "qa", "registered-agent"]);
        properties["agent"] = json!({"type": "string", "description": "name of a registered agent; left out for the four roles' own"});
    }
    object(
        json!({
            "summary": {"type": "string", "description": "the plan in a sentence or two"},
            "tasks": list(task, "in the order in which they may run"),
        }),
        &["summary", "tasks"],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_the_same_every_time_and_name_every_tool() {
        let all = definitions(Tool::ALL, true);
        assert_eq!(all.to_string(), definitions(Tool::ALL, true).to_string());
        let names: Vec<&str> =
            all.as_array().unwrap().iter().map(|t| t["function"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, Tool::ALL.iter().map(|t| t.as_str()).collect::<Vec<_>>());
    }

    /// What only people set.
    const FOR_PEOPLE: [&str; 2] = ["nano_usd", "on_failure"];

    #[test]
    fn without_registered_agents_a_plan_names_none() {
        let text = plan(false).to_string();
        assert!(!text.contains("agent\"") && !text.contains("registered"), "{text}");
    }

    #[test]
    fn the_plan_schema_has_the_fields_of_the_contract() {
        let ours = plan(true);
        let contract = serde_json::to_value(schemars_of_plan()).unwrap();
        let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&ours["properties"]), keys(&contract["properties"]));
        let task = &ours["properties"]["tasks"]["items"]["properties"];
        let mut want = keys(&contract["$defs"]["PlanTask"]["properties"]);
        want.retain(|key| !FOR_PEOPLE.contains(&key.as_str()));
        let mut got = keys(task);
        want.sort();
        got.sort();
        assert_eq!(got, want);
        let mut got = keys(&task["checks"]["items"]["properties"]);
        let mut want = keys(&contract["$defs"]["AcceptanceCheck"]["properties"]);
        got.sort();
        want.sort();
        assert_eq!(got, want);
    }

    fn schemars_of_plan() -> impl serde::Serialize {
        df_contract::schema::all().into_iter().find(|(name, _)| *name == "plan").unwrap().1
    }
}
