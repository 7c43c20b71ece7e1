//! Names the steps of a durable write, so that tests can look at what a power cut right after one would leave behind.
//! Nothing of it is in a program: outside this package's own tests `step` is empty.

#[cfg(not(test))]
pub(crate) fn step(_name: &'static str) {}

#[cfg(test)]
pub(crate) use hook::{step, watch};

#[cfg(test)]
mod hook {
    use std::cell::RefCell;

    type Hook = Box<dyn FnMut(&'static str)>;

    thread_local! {
        static SEEN: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    pub(crate) fn step(name: &'static str) {
        SEEN.with_borrow_mut(|hook| {
            if let Some(hook) = hook {
                hook(name);
            }
        });
    }

    /// Calls `hook` after each step of this thread while `work` runs.
    pub(crate) fn watch<R>(hook: impl FnMut(&'static str) + 'static, work: impl FnOnce() -> R) -> R {
        SEEN.set(Some(Box::new(hook)));
        let result = work();
        SEEN.set(None);
        result
    }
}
