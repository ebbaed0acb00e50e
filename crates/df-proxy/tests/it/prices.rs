//! What a call costs, from what a provider says to the row of the ledger.

use serde_json::json;

use crate::support::{Harness, accounts, ask, cap, claims};
use crate::upstream::{After, Say, Upstream, chunk, whole};

const PRICES: &str = "
[[prices]]
model = 'm'
input_nano_usd_per_million = 1000000000
cache_read_nano_usd_per_million = 100000000
output_nano_usd_per_million = 4000000000
reasoning_nano_usd_per_million = 5000000000
request_nano_usd = 7
[[prices]]
model = 'm'
tier = 'priority'
input_nano_usd_per_million = 2000000000
output_nano_usd_per_million = 8000000000
";

#[tokio::test]
async fn caches_and_reasoning_have_their_prices_streamed_or_not() {
    let usage = json!({"prompt_tokens": 1000, "completion_tokens": 30,
        "prompt_tokens_details": {"cached_tokens": 900}, "completion_tokens_details": {"reasoning_tokens": 10}});
    let message = json!([{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]);
    let told = json!({"choices": message, "usage": usage});
    let events = vec![chunk(json!({"content": "x"}), "stop".into()), json!({"choices": [], "usage": usage})];
    let upstream = Upstream::new([Say::Whole(told), Say::Stream(events, After::Done)]).await;
    let proxy = Harness::new(&(accounts(&[&upstream]) + PRICES)).await;
    let mut paid = claims();
    paid.caps = vec![cap("job", None, Some(1_000_000_000))];
    for stream in [false, true] {
        let answer = proxy.post(&proxy.grant(&paid), &ask(stream)).await;
        assert_eq!(answer.status(), 200);
        answer.text().await.unwrap();
    }
    let rows = proxy.ledger(2).await;
    for row in &rows {
        let counters = ["uncached_input", "cache_read", "cache_write_5m", "output", "reasoning"];
        assert_eq!(counters.map(|name| row[name].as_u64().unwrap()), [100, 900, 0, 20, 10]);
        assert_eq!(row["nano_usd"], 100 * 1000 + 900 * 100 + 20 * 4000 + 10 * 5000 + 7);
        assert_eq!(row["price_version"].as_str().unwrap().len(), 16);
    }
    assert_eq!(rows[0]["price_version"], rows[1]["price_version"]);
}

#[tokio::test]
async fn the_tier_that_served_is_charged_and_an_unpriced_one_is_refused_before_the_call() {
    let served = |tier: &str| {
        let Say::Whole(mut body) = whole("hi") else { unreachable!() };
        body["service_tier"] = tier.into();
        Say::Whole(body)
    };
    let upstream = Upstream::new([served("priority"), served("default")]).await;
    let proxy = Harness::new(&(accounts(&[&upstream]) + PRICES)).await;
    let mut paid = claims();
    paid.caps = vec![cap("job", None, Some(1_000_000_000))];
    let mut urgent = ask(false);
    urgent["service_tier"] = "priority".into();
    for _ in 0..2 {
        assert_eq!(proxy.post(&proxy.grant(&paid), &urgent).await.status(), 200);
    }
    let costs: Vec<_> = proxy.ledger(2).await.iter().map(|row| row["nano_usd"].as_u64().unwrap()).collect();
    assert_eq!(costs, [10 * 2000 + 5 * 8000, 10 * 1000 + 5 * 4000 + 7]);

    let usual_only = PRICES.split("[[prices]]").take(2).collect::<Vec<_>>().join("[[prices]]");
    let proxy = Harness::new(&(accounts(&[&upstream]) + &usual_only)).await;
    let refused = proxy.post(&proxy.grant(&paid), &urgent).await;
    assert_eq!(refused.status(), 400);
    assert_eq!(refused.json::<serde_json::Value>().await.unwrap()["error"]["code"], "model_unpriced");
}
