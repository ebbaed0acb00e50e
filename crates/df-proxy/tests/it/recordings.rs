//! A conversation recorded from a live account and replayed by a recorded one.

use serde_json::{Value, json};

use crate::support::{Harness, KEY_TEXT, accounts, ask, claims, events, files_with, spelt};
use crate::upstream::{Say, Upstream, whole};

fn tool_call(id: &str) -> Say {
    Say::Whole(json!({
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": null,
            "reasoning_content": "not kept", "tool_calls": [
            {"id": id, "type": "function", "function": {"name": "run", "arguments": "{\"cmd\": \"test\"}"}}]}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    }))
}

/// The second request of a conversation whose first answer called a tool.
fn second(id: &str, output: &str) -> Value {
    let mut body = ask(false);
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": "", "tool_calls": [
        {"id": id, "type": "function", "function": {"name": "run", "arguments": "{\"cmd\":\"test\"}"}}]}));
    messages.push(json!({"role": "tool", "tool_call_id": id, "content": output}));
    body
}

/// Records two steps and starts a proxy that replays them.
async fn recorded() -> Harness {
    let upstream = Upstream::new([tool_call("call_abc123"), whole("done")]).await;
    let live = Harness::new(&("record_to = 'rec/r.jsonl'\n".to_owned() + &accounts(&[&upstream]))).await;
    assert_eq!(live.call(&ask(false)).await.status(), 200);
    assert_eq!(live.call(&second("call_abc123", "Ran 3 tests in 0.003s")).await.status(), 200);
    let dir = live.stop().await;
    assert!(files_with(&dir.path().join("rec"), KEY_TEXT).is_empty());
    assert!(files_with(&dir.path().join("rec"), "not kept").is_empty());
    let config =
        "[[accounts]]\nkind = 'recorded'\nid = 'rec'\npath = 'rec/r.jsonl'\n[routes]\n'*' = ['rec']\n";
    Harness::within(dir, config).await
}

#[tokio::test]
async fn a_replay_answers_what_fits_streamed_or_not() {
    let replay = recorded().await;
    // Another job: ids never take part.
    let mut other = claims();
    other.job = df_contract::JobId::mint(crate::support::now(), [7; 10]);
    other.caps = vec![crate::support::cap("money", None, Some(0))];
    let grant = replay.grant(&other);
    let first = replay.post(&grant, &ask(false)).await;
    assert_eq!(first.headers()["x-devfactory-recording"], "fits");
    let first: Value = first.json().await.unwrap();
    let call = &first["choices"][0]["message"]["tool_calls"][0];
    assert_eq!((&call["id"], &call["function"]["name"]), (&"call_0_0".into(), &"run".into()));
    assert_eq!(first["usage"]["prompt_tokens"], 10);

    let mut next = second("call_0_0", "Ran 3 tests in 9.871s\r\n");
    next["stream"] = true.into();
    let got = events(&replay.post(&grant, &next).await.text().await.unwrap());
    assert_eq!((spelt(&got).as_str(), got.last().unwrap().as_str()), ("done", "[DONE]"));
    let rows = replay.usage(4).await;
    assert!(rows[2..].iter().all(|r| r.nano_usd.0 == 0 && !r.estimated && r.input_tokens.0 == 10));
    let view = replay.admin("/admin/v1/recordings").await;
    assert_eq!((&view["recordings"][0]["entries"], &view["recordings"][0]["used"]), (&2.into(), &2.into()));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_the_first_difference() {
    let replay = recorded().await;
    let response = replay.call(&second("call_0_0", "Ran 4 tests in 0.1s")).await;
    assert_eq!(response.status(), 422);
    let error = response.json::<Value>().await.unwrap()["error"].clone();
    assert_eq!(error["code"], "recording_mismatch");
    let message = error["message"].as_str().unwrap();
    for part in ["task `api`, step 1", "message 2 (tool)", "Ran 3 tests in <duration>", "Ran 4 tests"] {
        assert!(message.contains(part), "{message}");
    }
    // The mismatch cost nothing: only the two recorded calls are in the ledger.
    replay.usage(2).await;
}

#[tokio::test]
async fn a_changed_prompt_or_tool_answers_and_is_reported_stale() {
    let replay = recorded().await;
    let mut drifted = ask(false);
    drifted["messages"][0]["content"] = "another system prompt".into();
    assert_eq!(replay.call(&drifted).await.headers()["x-devfactory-recording"], "stale; system");
    drifted["tools"] = json!([{"type": "function", "function": {"name": "run"}}]);
    assert_eq!(replay.call(&drifted).await.headers()["x-devfactory-recording"], "stale; system, tools");
    let task = replay.admin("/admin/v1/recordings").await["recordings"][0]["tasks"][0].clone();
    assert_eq!(
        (&task["stale_system"], &task["stale_tools"], &task["task"]),
        (&true.into(), &true.into(), &"api".into())
    );
}
