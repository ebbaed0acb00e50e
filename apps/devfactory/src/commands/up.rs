//! `up`: a whole local stack, kept running until it is told to stop.

use crate::args::UpArgs;
use crate::stack::{Stack, told_to_stop};

pub(crate) async fn up(args: &UpArgs) -> anyhow::Result<()> {
    let stack = Stack::start(&args.stack, &args.listen, None).await?;
    println!("daemon  {}", stack.daemon_url);
    println!("proxy   {}", stack.proxy_url);
    println!("data    {}", stack.data_dir.display());
    if let Some(key) = &stack.fresh_admin_key {
        println!("admin key (shown once): {key}");
        println!("  export DEVFACTORY_URL={} DEVFACTORY_API_KEY={key}", stack.daemon_url);
    }
    println!("stop with ctrl-c");
    told_to_stop().await?;
    println!("stopping");
    stack.stop().await;
    Ok(())
}
