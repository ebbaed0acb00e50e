//! When a process is told to stop.

use std::io::{self, Read as _};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Resolves at SIGTERM or SIGINT, and with `at_eof` also when standard input ends: the kernel closes that pipe when the
/// process that held its other end is gone, however it went.
///
/// Signals count from the call on, not from the first poll. Call it within a runtime, before anybody can know that the
/// process is there: a signal without a handler would kill it.
pub fn told_to_stop(at_eof: bool) -> io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (ended, eof) = oneshot::channel();
    if at_eof {
        // A thread of its own: a read of standard input cannot be called off, and must not hold up the runtime's end.
        std::thread::Builder::new().name("stdin".into()).spawn(move || {
            read_to_the_end();
            let _nobody = ended.send(());
        })?;
    }
    Ok(async move {
        // Without the thread the sender is gone at once, which is no reason to stop.
        let eof = async { if at_eof { eof.await } else { std::future::pending().await } };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = eof => {}
        }
    })
}

fn read_to_the_end() {
    let mut ignored = [0; 1024];
    loop {
        match io::stdin().read(&mut ignored) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
