//! Memory for the length of a call. Whichever layer a call is for, it takes what an earlier one gave back: the memory of
//! products and steps does not grow with depth.

use std::sync::{Mutex, PoisonError};

/// As many `T`s as calls have needed at the same time.
#[derive(Debug)]
pub(crate) struct Pool<T>(Mutex<Vec<T>>);

impl<T: Default> Pool<T> {
    /// None yet.
    pub const fn new() -> Self {
        Pool(Mutex::new(Vec::new()))
    }

    /// Lends one, as an earlier call left it. Calls may nest: each has its own.
    pub fn with<R>(&self, call: impl FnOnce(&mut T) -> R) -> R {
        let free = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lent = free().pop().unwrap_or_default();
        let result = call(&mut lent);
        free().push(lent);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_one_after_another_share_and_nested_ones_do_not() {
        let pool: Pool<Vec<u8>> = Pool::new();
        pool.with(|a| {
            a.push(1);
            pool.with(|b| assert!(b.is_empty()));
        });
        pool.with(|a| pool.with(|b| assert_eq!(a.len() + b.len(), 1)));
    }
}
