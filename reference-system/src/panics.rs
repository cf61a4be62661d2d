//! What becomes of a process in which something panics. A request's handler is caught, so that one bad request costs one
//! answer; anything else ends the process, because a role without one of its tasks would look alive and do half its work.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// How a process ends that panicked.
const PANICKED: i32 = 101;

thread_local! {
    /// Whether this thread runs the handler of a request.
    static HANDLING: Cell<bool> = const { Cell::new(false) };
}

/// What a panic said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Panicked(pub(crate) String);

/// From now on, a panic outside of [`caught`] ends this process.
pub(crate) fn end_the_process() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        if !HANDLING.get() {
            exit();
        }
    }));
}

/// Ends the process as a panic that nobody caught does.
#[expect(clippy::disallowed_methods, reason = "a role holds no faults and no children")]
pub(crate) fn exit() -> ! {
    tracing::error!("ending after a panic");
    std::process::exit(PANICKED)
}

/// Runs the handler of a request.
pub(crate) async fn caught<T>(handler: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut handler = pin!(handler);
    std::future::poll_fn(|context| {
        let outside = HANDLING.replace(true);
        let polled = catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(context)));
        HANDLING.set(outside);
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(answer)) => Poll::Ready(Ok(answer)),
            Err(payload) => Poll::Ready(Err(Panicked(text_of(payload.as_ref())))),
        }
    })
    .await
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a value that is no text").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_handler_that_panics_late_is_caught_with_its_words() {
        assert_eq!(caught(async { 7 }).await, Ok(7));
        let late = caught(async {
            tokio::task::yield_now().await;
            assert!(HANDLING.get());
            panic!("number {}", 8)
        });
        assert_eq!(late.await, Err::<(), _>(Panicked("number 8".to_owned())));
        assert!(!HANDLING.get());
    }
}
