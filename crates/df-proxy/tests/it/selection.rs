//! Limits, waits, tenants and places: what decides who is asked, seen from outside.

use serde_json::{Value, json};

use crate::support::{Harness, accounts, ask, pooled};
use crate::upstream::{Say, Upstream, whole};

/// Waits for less than a test can notice, or for longer than it would.
const PATIENT: &str = "[limits]\nretry_pause_ms = 1\npark_ms = 60000\n";

fn limited(headers: &'static [(&'static str, &'static str)]) -> Say {
    Say::Status(429, headers, json!({"error": {"message": "slower", "type": "requests"}}))
}

async fn error(response: reqwest::Response) -> Value {
    response.json::<Value>().await.unwrap()["error"].clone()
}

#[tokio::test]
async fn a_short_limit_is_waited_for() {
    for headers in
        [&[("retry-after-ms", "40")][..], &[("x-ms-retry-after-ms", "40")], &[("retry-after", "0.04")]]
    {
        let upstream = Upstream::new([limited(headers), whole("hi")]).await;
        let proxy = Harness::new(&(accounts(&[&upstream]) + PATIENT)).await;
        assert_eq!(proxy.call(&ask(false)).await.status(), 200, "{headers:?}");
        assert_eq!(upstream.asked().len(), 2);
    }
}

#[tokio::test]
async fn a_provider_that_never_stops_refusing_is_not_asked_for_ever() {
    let upstream = Upstream::new([limited(&[("retry-after-ms", "1")])]).await;
    let config = accounts(&[&upstream]) + "[limits]\nrotations = 3\npark_ms = 60000\n";
    let proxy = Harness::new(&config).await;
    assert_eq!(proxy.call(&ask(false)).await.status(), 429);
    assert_eq!(upstream.asked().len(), 4);
}

#[tokio::test]
async fn a_limit_in_the_configuration_is_kept_before_the_provider_is_asked() {
    let upstream = Upstream::new([whole("hi")]).await;
    let limits = "limits = [{ axis = 'requests_per_minute', amount = 2 }]";
    let proxy = Harness::new(&pooled(&[&upstream], limits)).await;
    for expect in [200, 200, 429] {
        assert_eq!(proxy.call(&ask(false)).await.status(), expect);
    }
    assert_eq!(upstream.asked().len(), 2);
}

#[tokio::test]
async fn accounts_of_one_domain_live_on_one_limit_and_the_next_pool_takes_over() {
    let (org, other) = (Upstream::new([whole("hi")]).await, Upstream::new([whole("hi")]).await);
    let config = pooled(&[&org, &org, &other], "")
        .replacen("id = 'a0'\n", "id = 'a0'\ndomains = ['org']\n", 1)
        .replacen("id = 'a1'\n", "id = 'a1'\ndomains = ['org']\n", 1)
        .replace("'*' = ['a0', 'a1', 'a2']", "'*' = ['org-pool', 'a2']")
        + "[[domains]]\nid = 'org'\nlimits = [{ family = 'm*', axis = 'requests_per_minute', amount = 3 }]\n\
           [[pools]]\nid = 'org-pool'\naccounts = ['a0', 'a1']\n";
    let proxy = Harness::new(&config).await;
    for _ in 0..5 {
        assert_eq!(proxy.call(&ask(false)).await.status(), 200);
    }
    assert_eq!((org.asked().len(), other.asked().len()), (3, 2));
}

#[tokio::test]
async fn one_purse_that_is_empty_is_empty_for_all_who_pay_from_it() {
    let broke = Say::Status(402, &[], json!({"error": {"message": "pay"}}));
    let (org, other) = (Upstream::new([broke]).await, Upstream::new([whole("hi")]).await);
    let config = pooled(&[&org, &org, &other], "")
        .replacen("id = 'a0'\n", "id = 'a0'\ndomains = ['org']\n", 1)
        .replacen("id = 'a1'\n", "id = 'a1'\ndomains = ['org']\n", 1)
        .replace("'*' = ['a0', 'a1', 'a2']", "'*' = ['p', 'a2']")
        + "[[domains]]\nid = 'org'\n[[pools]]\nid = 'p'\naccounts = ['a0', 'a1']\n";
    let proxy = Harness::new(&config).await;
    assert_eq!(proxy.call(&ask(false)).await.status(), 200);
    assert_eq!((org.asked().len(), other.asked().len()), (1, 1));
    let view = proxy.admin("/admin/v1/accounts").await;
    assert_eq!(view["accounts"][0]["out_because"], "billing");
    assert_eq!(view["accounts"][1]["out_because"], "billing");
    assert!(view["accounts"][2].get("out_because").is_none());
}

#[tokio::test]
async fn a_personal_subscription_serves_its_owner_alone() {
    let (mine, common) = (Upstream::new([whole("hi")]).await, Upstream::new([whole("hi")]).await);
    let config = pooled(&[&mine, &common], "").replacen(
        "id = 'a0'\n",
        "id = 'a0'\nterms = 'personal'\nowner = 'me'\n",
        1,
    );
    let proxy = Harness::new(&config).await;
    for _ in 0..3 {
        assert_eq!(proxy.call_as("acme", &[], &ask(false)).await.status(), 200);
    }
    assert_eq!((mine.asked().len(), common.asked().len()), (0, 3));
    assert_eq!(proxy.call_as("me", &[], &ask(false)).await.status(), 200);
    assert_eq!((mine.asked().len(), common.asked().len()), (1, 3));
    // Named outright it is still not to be had by others.
    let named = [("x-devfactory-account", "a0")];
    let refused = proxy.call_as("acme", &named, &ask(false)).await;
    assert_eq!(refused.status(), 400);
    let missing = proxy.call_as("acme", &[("x-devfactory-account", "gone")], &ask(false)).await;
    let texts = [error(refused).await, error(missing).await]
        .map(|e| e["message"].as_str().unwrap().replace("gone", "a0"));
    assert_eq!(texts[0], texts[1], "nobody learns which accounts there are");
    assert_eq!(proxy.call_as("me", &named, &ask(false)).await.status(), 200);
}

#[tokio::test]
async fn a_model_only_others_may_have_is_unavailable() {
    let mine = Upstream::new([whole("hi")]).await;
    let proxy = Harness::new(&pooled(&[&mine], "tenants = ['me']")).await;
    let refused = proxy.call_as("acme", &[], &ask(false)).await;
    assert_eq!(refused.status(), 503);
    assert!(mine.asked().is_empty());
}

#[tokio::test]
async fn headers_of_every_answer_teach() {
    let full = Say::Headed(
        &[("x-ratelimit-limit-requests", "60"), ("x-ratelimit-remaining-requests", "0")],
        Box::new(whole("hi")),
    );
    let (first, second) = (Upstream::new([full]).await, Upstream::new([whole("hi")]).await);
    let proxy = Harness::new(&accounts(&[&first, &second])).await;
    for _ in 0..2 {
        assert_eq!(proxy.call(&ask(false)).await.status(), 200);
    }
    assert_eq!((first.asked().len(), second.asked().len()), (1, 1));
}

#[tokio::test]
async fn one_conversation_stays_where_its_cache_is() {
    let upstreams = [Upstream::new([whole("hi")]).await, Upstream::new([whole("hi")]).await];
    let proxy = Harness::new(&pooled(&[&upstreams[0], &upstreams[1]], "")).await;
    let asked = || upstreams.each_ref().map(|u| u.asked().len());
    let mut used = [false; 2];
    for session in ["s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8"] {
        let before = asked();
        for _ in 0..3 {
            let headers = [("x-devfactory-session", session)];
            assert_eq!(proxy.call_as("acme", &headers, &ask(false)).await.status(), 200);
        }
        let after = asked();
        let grown = [after[0] - before[0], after[1] - before[1]];
        assert!(grown == [3, 0] || grown == [0, 3], "{grown:?}");
        used[usize::from(grown[1] == 3)] = true;
    }
    assert_eq!(used, [true, true], "sessions spread");
}

#[tokio::test]
async fn a_call_that_no_limit_ever_allows_is_the_client_s_fault() {
    let upstream = Upstream::new([whole("never")]).await;
    let limits = "limits = [{ axis = 'tokens_per_minute', amount = 10 }]";
    let proxy = Harness::new(&pooled(&[&upstream], limits)).await;
    let refused = proxy.call(&ask(false)).await;
    assert_eq!(refused.status(), 400);
    assert_eq!(error(refused).await["code"], "invalid_request");
    assert!(upstream.asked().is_empty());
}
