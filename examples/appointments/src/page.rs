//! Cutting a list into pages that fit a reply.

use jiff::Timestamp;

use crate::api::ListReply;
use crate::calendar::{Calendar, Filter};
use crate::fault::{Fault, code};

/// The most appointments in a page, and how many if the request does not say.
const MOST: u32 = 1000;
const USUAL: u32 = 200;

/// JSON bytes at which a page ends: half of what a reply can carry.
const BYTES: usize = 512 * 1024;

/// The page of at most `limit` appointments that `filter` admits, after the mark `after`.
///
/// # Errors
/// [`code::FIELD_INVALID`] for a limit of 0 or above 1000, or a mark that is not of an earlier page.
pub(crate) fn cut(
    calendar: &Calendar,
    filter: &Filter,
    after: Option<&str>,
    limit: Option<u32>,
) -> Result<ListReply, Fault> {
    let limit = limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        let message = format!("must be 1 to {MOST}");
        return Err(Fault::new(code::FIELD_INVALID, "limit", limit, &message));
    }
    let after = after
        .map(|mark| {
            let message = "is not the `next` of a page";
            read_mark(mark).ok_or_else(|| Fault::new(code::FIELD_INVALID, "after", mark, message))
        })
        .transpose()?;
    let mut reply = ListReply { appointments: Vec::new(), next: None };
    let mut bytes = 0;
    for appointment in calendar.find(filter, after) {
        let length = serde_json::to_vec(&**appointment).map_or(0, |json| json.len());
        let full = reply.appointments.len() == limit as usize || bytes + length > BYTES;
        if let Some(last) = reply.appointments.last().filter(|_| full) {
            reply.next = Some(format!("{}/{}", last.start.at(), last.id));
            break;
        }
        bytes += length;
        reply.appointments.push((**appointment).clone());
    }
    Ok(reply)
}

/// A mark is the start, in UTC and in full, and the id of the last appointment of a page.
fn read_mark(mark: &str) -> Option<(Timestamp, &str)> {
    let (start, id) = mark.split_once('/')?;
    Some((start.parse().ok()?, id))
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use serde_json::json;

    use super::*;

    fn calendar(count: u32, note: &str) -> Calendar {
        let mut calendar = Calendar::default();
        for nth in 0..count {
            // Several start at the same moment: only the id tells them apart.
            let (start, end) = (nth / 3, nth / 3 + 1);
            let value = json!({
                "resourceType": "Appointment", "id": format!("a{nth:03}"), "status": "booked", "comment": note,
                "start": format!("2026-03-09T{:02}:{:02}:00.5Z", start / 60, start % 60),
                "end": format!("2026-03-09T{:02}:{:02}:00.5Z", end / 60, end % 60),
                "participant": [{"actor": {"display": "x"}, "status": "accepted"}]
            });
            calendar.insert(Rc::new(serde_json::from_value(value).unwrap()));
        }
        calendar
    }

    fn walk(calendar: &Calendar, limit: Option<u32>) -> (Vec<String>, usize) {
        let (mut ids, mut pages, mut after) = (Vec::new(), 0, None);
        loop {
            let page = cut(calendar, &Filter::default(), after.as_deref(), limit).unwrap();
            ids.extend(page.appointments.into_iter().map(|one| one.id));
            pages += 1;
            after = page.next;
            if after.is_none() {
                return (ids, pages);
            }
        }
    }

    #[test]
    fn pages_together_are_the_whole_in_order() {
        let calendar = calendar(100, "");
        let all: Vec<_> = calendar.iter().map(|one| one.id.clone()).collect();
        for (limit, pages) in [(1, 100), (7, 15), (50, 2), (100, 1), (1000, 1)] {
            assert_eq!(walk(&calendar, Some(limit)), (all.clone(), pages), "{limit}");
        }
        assert_eq!(walk(&Calendar::default(), None), (Vec::new(), 1));
    }

    #[test]
    fn a_page_is_also_cut_by_its_bytes() {
        let calendar = calendar(100, &"n".repeat(60_000));
        let (ids, pages) = walk(&calendar, None);
        assert_eq!((ids.len(), pages), (100, 13), "8 appointments of 60 kB fit 512 KiB");
    }

    #[test]
    fn refuses_what_is_no_mark_or_limit() {
        let calendar = calendar(3, "");
        let fault =
            |after, limit| cut(&calendar, &Filter::default(), after, limit).unwrap_err().path;
        assert_eq!(fault(None, Some(0)), "limit");
        assert_eq!(fault(None, Some(1001)), "limit");
        assert_eq!(fault(Some("page 2"), None), "after");
        assert_eq!(fault(Some("yesterday/a001"), None), "after");
    }
}
