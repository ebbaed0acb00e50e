//! `up`: a whole local stack, kept running until it is told to stop.

use crate::args::UpArgs;
use crate::stack::{Stack, told_to_stop};

pub(crate) async fn up(args: &UpArgs) -> anyhow::Result<()> {
    let stack = Stack::start(&args.stack, &args.listen, None).await?;
    crate::output::line(format_args!("daemon  {}", stack.daemon_url));
    crate::output::line(format_args!("proxy   {}", stack.proxy_url));
    crate::output::line(format_args!("data    {}", stack.data_dir.display()));
    if let Some(key) = &stack.fresh_admin_key {
        crate::output::line(format_args!("admin key (shown once): {key}"));
        crate::output::line(format_args!(
            "  export DEVFACTORY_URL={} DEVFACTORY_API_KEY={key}",
            stack.daemon_url
        ));
    }
    if args.stack.base_url.is_none() && args.stack.recording.is_none() {
        crate::output::line(format_args!(
            "no model: jobs fail at their first task; start again with --base-url and --model, or with --recording"
        ));
    }
    crate::output::line(format_args!("stop with ctrl-c"));
    told_to_stop().await?;
    crate::output::line(format_args!("stopping"));
    stack.stop().await;
    Ok(())
}
