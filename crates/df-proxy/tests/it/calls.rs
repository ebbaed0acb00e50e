//! A call that goes well, and each way of being refused before an account is asked.

use df_contract::{DurationMs, NanoUsd, Timestamp, Tokens};
use serde_json::{Value, json};

use crate::support::{Harness, KEY_TEXT, accounts, ask, cap, claims, events, files_with, now, spelt};
use crate::upstream::{Upstream, streamed, whole};

#[tokio::test]
async fn a_whole_answer_passes_and_is_settled_in_money() {
    let upstream = Upstream::new([whole("hi")]).await;
    let config = accounts(&[&upstream]).replace("key_file", "models = { m = 'big-1' }\nkey_file")
        + "[prices.m]\ninput_nano_usd_per_million = 1000000000\noutput_nano_usd_per_million = 4000000000\n";
    let proxy = Harness::new(&config).await;
    let mut paid = claims();
    paid.caps = vec![cap("job", None, Some(1_000_000_000))];
    let response = proxy.post(&proxy.grant(&paid), &ask(false)).await;
    assert_eq!(response.status(), 200);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], "hi");

    let asked = &upstream.asked()[0];
    assert_eq!(asked.authorization.as_deref(), Some(format!("Bearer {KEY_TEXT}").as_str()));
    assert_eq!((&asked.body["model"], &asked.body["max_tokens"]), (&"big-1".into(), &20.into()));
    let row = proxy.usage(1).await.remove(0);
    assert_eq!((row.input_tokens, row.output_tokens, row.estimated), (Tokens(10), Tokens(5), false));
    assert_eq!((row.nano_usd, row.account.as_str(), row.model.as_str()), (NanoUsd(30_000), "a0", "m"));
    assert_eq!((row.job, row.attempt, row.epoch), (paid.job, paid.attempt, 1));
    let dir = proxy.stop().await;
    assert!(files_with(&dir.path().join("data"), KEY_TEXT).is_empty());
    assert!(!dir.path().join("data/proxy.addr").exists());
}

#[tokio::test]
async fn a_stream_shows_usage_only_to_those_who_asked() {
    let upstream = Upstream::new([streamed("hello you")]).await;
    let proxy = Harness::new(&accounts(&[&upstream])).await;
    for asked_for_usage in [false, true] {
        let mut body = ask(true);
        if asked_for_usage {
            body["stream_options"] = json!({"include_usage": true});
        }
        let response = proxy.call(&body).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let got = events(&response.text().await.unwrap());
        assert_eq!(spelt(&got), "hello you");
        assert_eq!(got.last().unwrap(), "[DONE]");
        assert_eq!(got.iter().any(|e| e.contains("prompt_tokens")), asked_for_usage);
    }
    assert!(upstream.asked().iter().all(|a| a.body["stream_options"]["include_usage"] == true));
    assert!(proxy.usage(2).await.iter().all(|r| !r.estimated && r.output_tokens == Tokens(5)));
}

#[tokio::test]
async fn every_refusal_has_its_code_and_no_account_is_asked() {
    let upstream = Upstream::new([whole("never")]).await;
    let config = accounts(&[&upstream]).replace("'*'", "m") + "[limits]\nmax_request_bytes = 2000\n";
    let proxy = Harness::new(&config).await;
    let grant = |change: fn(&mut df_contract::GrantClaims)| {
        let mut claims = claims();
        change(&mut claims);
        proxy.grant(&claims)
    };
    let good = grant(|_| {});
    let expired = grant(|c| {
        c.issued_at = Timestamp(now().0 - 10_000);
        c.expires_at = c.issued_at.plus(DurationMs(1_000));
    });
    let other_model = json!({"model": "x", "messages": [{"role": "user", "content": "a"}]});
    let large = json!({"model": "m", "messages": [{"role": "user", "content": "a".repeat(3000)}]});
    for (token, body, status, code, kind) in [
        ("", ask(false), 401, "unauthenticated", "authentication_error"),
        ("dfg1.x.y", ask(false), 401, "grant_invalid", "authentication_error"),
        (&expired, ask(false), 401, "grant_expired", "authentication_error"),
        (&good, json!({"model": "m"}), 400, "invalid_request", "invalid_request_error"),
        (&good, large, 413, "body_too_large", "invalid_request_error"),
        (&good, other_model.clone(), 403, "model_forbidden", "permission_error"),
        (&grant(|c| c.models = vec!["x".into()]), other_model, 404, "model_unknown", "invalid_request_error"),
        (
            &grant(|c| c.caps = vec![cap("j2", None, Some(9))]),
            ask(true),
            400,
            "model_unpriced",
            "invalid_request_error",
        ),
        (
            &grant(|c| c.caps = vec![cap("j3", Some(20), None)]),
            ask(true),
            402,
            "budget_exhausted",
            "insufficient_quota",
        ),
    ] {
        let response = proxy.post(token, &body).await;
        assert_eq!(response.status(), status, "{code}");
        assert!(response.headers().get("retry-after").is_none());
        let error: Value = response.json().await.unwrap();
        assert_eq!(
            (&error["error"]["code"], &error["error"]["type"]),
            (&code.into(), &kind.into()),
            "{error}"
        );
    }
    let nowhere = proxy.get("/v1/nothing", &good).await;
    assert_eq!(
        (nowhere.status().as_u16(), nowhere.json::<Value>().await.unwrap()["error"]["code"].clone()),
        (404, "not_found".into())
    );
    assert!(upstream.asked().is_empty());
    proxy.usage(0).await;
}

#[tokio::test]
async fn a_revoked_epoch_is_dead_and_a_later_one_lives() {
    let upstream = Upstream::new([whole("hi")]).await;
    let proxy = Harness::new(&accounts(&[&upstream])).await;
    let mut claims = claims();
    let body = json!({"job": claims.job, "task": claims.task, "epoch": 1});
    assert_eq!(proxy.revoke(&body).await.status(), 200);
    let refused = proxy.post(&proxy.grant(&claims), &ask(false)).await;
    assert_eq!(refused.status(), 403);
    assert_eq!(refused.json::<Value>().await.unwrap()["error"]["code"], "grant_revoked");
    claims.epoch = 2;
    assert_eq!(proxy.post(&proxy.grant(&claims), &ask(false)).await.status(), 200);
    let wrong = proxy.revoke(&json!({"job": "x"})).await;
    assert_eq!(wrong.headers()["content-type"], "application/problem+json");
    assert_eq!(wrong.json::<Value>().await.unwrap()["code"], "invalid_request");
}

#[tokio::test]
async fn the_admin_api_takes_the_admin_token_alone() {
    let upstream = Upstream::new([whole("hi")]).await;
    let proxy = Harness::new(&accounts(&[&upstream])).await;
    let grant = proxy.grant(&claims());
    for path in ["/admin/v1/usage", "/admin/v1/accounts", "/admin/v1/recordings"] {
        for token in ["", "wrong", &grant] {
            assert_eq!(proxy.get(path, token).await.status(), 401, "{path}");
        }
        assert_eq!(proxy.get(path, &proxy.admin_token()).await.status(), 200);
    }
    assert_eq!(proxy.post(&proxy.admin_token(), &ask(false)).await.status(), 401);
    assert_eq!(proxy.call(&ask(false)).await.status(), 200);
    proxy.usage(1).await;
    let accounts = proxy.admin("/admin/v1/accounts").await;
    assert_eq!(accounts["usage_by_account"][0]["spend"]["input_tokens"], 10);
    assert_eq!(accounts["usage_by_job"][0]["spend"]["calls"], 1);
    assert!(!accounts.to_string().contains(KEY_TEXT));
    let models: Value = proxy.get("/v1/models", &grant).await.json().await.unwrap();
    assert_eq!(models["data"][0]["id"], "m");
    assert_eq!(proxy.get("/healthz", "").await.status(), 200);
}
