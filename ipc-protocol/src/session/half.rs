//! The two ends of a stream, as bookkeeping: what may be sent, and what may come.

use crate::Violation;
use crate::limits::MAX_CREDIT;
use crate::session::StreamId;

/// The end that sends.
#[derive(Debug, Default)]
pub(super) struct SendHalf {
    credit: u64,
    /// We sent `End` or `Reset`.
    over: bool,
    /// The peer sent `Stop`.
    stopped: bool,
}

impl SendHalf {
    pub(super) fn credit(&self) -> u64 {
        self.credit
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    pub(super) fn spend(&mut self, bytes: u64) {
        self.credit -= bytes;
    }

    /// Ends it; false if it had ended before.
    pub(super) fn end(&mut self) -> bool {
        !std::mem::replace(&mut self.over, true)
    }

    pub(super) fn allow(&mut self, stream: StreamId, bytes: u32) -> Result<(), Violation> {
        let StreamId { call, direction } = stream;
        if bytes == 0 {
            return Err(Violation::CreditEmpty { call, direction });
        }
        let credit = self.credit + u64::from(bytes);
        if credit > MAX_CREDIT {
            return Err(Violation::CreditOverflow { call, direction, credit, limit: MAX_CREDIT });
        }
        self.credit = credit;
        Ok(())
    }

    pub(super) fn stop(&mut self, stream: StreamId) -> Result<(), Violation> {
        let StreamId { call, direction } = stream;
        if std::mem::replace(&mut self.stopped, true) {
            return Err(Violation::StopTwice { call, direction });
        }
        Ok(())
    }
}

/// The end that receives.
#[derive(Debug, Default)]
pub(super) struct ReceiveHalf {
    allowed: u64,
    /// The peer sent `End` or `Reset`.
    over: bool,
    /// We want no more: what comes is counted and dropped.
    stopped: bool,
}

impl ReceiveHalf {
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether what comes is wanted.
    pub(super) fn is_wanted(&self) -> bool {
        !self.stopped
    }

    /// Raises what may come by at most `bytes`, and returns by how much it did.
    pub(super) fn grant(&mut self, bytes: u32) -> u32 {
        if self.over || self.stopped {
            return 0;
        }
        let bytes = bytes.min((MAX_CREDIT - self.allowed) as u32);
        self.allowed += u64::from(bytes);
        bytes
    }

    /// Wants no more; false if that was so already, or there is no more.
    pub(super) fn stop(&mut self) -> bool {
        !std::mem::replace(&mut self.stopped, true) && !self.over
    }

    pub(super) fn chunk(&mut self, stream: StreamId, length: usize) -> Result<(), Violation> {
        let StreamId { call, direction } = stream;
        if self.over {
            return Err(Violation::StreamEnded { call, direction });
        }
        let credit = self.allowed;
        let Some(allowed) = credit.checked_sub(length as u64) else {
            return Err(Violation::CreditExceeded { call, direction, length, credit });
        };
        self.allowed = allowed;
        Ok(())
    }

    pub(super) fn end(&mut self, stream: StreamId) -> Result<(), Violation> {
        let StreamId { call, direction } = stream;
        if std::mem::replace(&mut self.over, true) {
            return Err(Violation::StreamEnded { call, direction });
        }
        Ok(())
    }
}
