//! `devfactory up`: however it ends, its processes end with it, and its data can be used again at once.

use df_testkit::{Limit, Up, poll};

#[tokio::test(flavor = "multi_thread")]
async fn what_up_started_ends_when_up_is_killed() {
    let home = tempfile::tempdir().expect("a directory");
    let mut up = Up::start(home.path()).await;
    assert_eq!(up.processes(), ["devfactory", "devfactory-proxy", "devfactory-worker", "devfactoryd"]);
    up.kill();
    poll(Limit::PROCESS, "nothing of the stack", async || {
        let left = up.processes();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    let again = Up::start(home.path()).await;
    assert_eq!(again.processes().len(), 4);
}
