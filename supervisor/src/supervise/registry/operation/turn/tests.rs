use std::task::Poll;

use super::*;

fn plugin(id: &str) -> PluginId {
    id.parse().unwrap()
}

/// Polls once: whether it has to wait.
async fn waits<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
    std::future::poll_fn(|context| {
        Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())
    })
    .await
}

fn refused<T>(result: Result<T, Failure>) -> String {
    let Err(failure) = result else { panic!("it was let in") };
    assert_eq!(failure.code, Code::Conflict);
    failure.details["state"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_second_operation_waits_and_other_requests_are_refused_meanwhile() {
    let turns = Arc::new(Turns::default());
    let (one, other) = (plugin("one"), plugin("other"));
    let first = turns.take(&one, Kind::Upgrade).await;
    assert_eq!(refused(turns.check(&one)), "upgrading");
    assert_eq!(refused(turns.share(&one, Request::Configure)), "upgrading");
    assert_eq!(refused(turns.take_to_enable(&one).await), "upgrading");
    turns.check(&other).unwrap();
    drop(turns.take(&other, Kind::Install).await);

    let mut second = Box::pin(turns.take(&one, Kind::Uninstall));
    assert!(waits(&mut second).await);
    assert_eq!(turns.halted(&one), None, "an uninstallation does not halt an upgrade");
    drop(first);
    let second = second.await;
    assert_eq!(refused(turns.share(second.plugin(), Request::Disable)), "uninstalling");
    drop(second);
    turns.check(&one).unwrap();
    assert!(turns.busy().is_empty(), "nothing is kept of what is over");
}

#[tokio::test]
async fn an_operation_waits_for_what_changes_the_row_that_it_will_read() {
    let turns = Arc::new(Turns::default());
    let one = plugin("one");
    for request in [Request::Configure, Request::Disable] {
        let (share, second) =
            (turns.share(&one, request).unwrap(), turns.share(&one, request).unwrap());
        assert!(!share.halts);
        let mut upgrade = Box::pin(turns.take(&one, Kind::Upgrade));
        assert!(waits(&mut upgrade).await, "{request:?}");
        drop(share);
        assert!(waits(&mut upgrade).await, "{request:?}: the other is not over");
        drop(second);
        drop(upgrade.await);
    }
    let share = turns.share(&one, Request::Disable).unwrap();
    assert_eq!(refused(turns.take_to_enable(&one).await), "disabling");
    drop(share);
}

#[tokio::test]
async fn a_disabling_halts_what_starts_the_plugin_and_only_that_operation() {
    let turns = Arc::new(Turns::default());
    let one = plugin("one");
    for kind in [Kind::Enable, Kind::Upgrade, Kind::Rollback] {
        let turn = turns.take(&one, kind).await;
        let mut halted = Box::pin(turns.until_halted(&one));
        assert!(waits(&mut halted).await);
        let share = turns.share(&one, Request::Disable).unwrap();
        assert!(share.halts);
        assert_eq!((halted.await, turns.halted(&one)), (Halt::Disabled, Some(Halt::Disabled)));
        let mut ended = Box::pin(turns.operation_ends(&one));
        assert!(waits(&mut ended).await);
        drop(turn);
        ended.await;
        assert_eq!(turns.halted(&one), None, "{kind:?}: the next one is not halted");
        drop(share);
    }
    let _turn = turns.take(&one, Kind::Install).await;
    assert_eq!(refused(turns.share(&one, Request::Disable)), "installing");
}

#[tokio::test]
async fn an_uninstallation_cuts_a_start_short_and_a_second_enabling_waits_for_the_first() {
    let turns = Arc::new(Turns::default());
    let one = plugin("one");
    let first = turns.take_to_enable(&one).await.unwrap();
    let mut second = Box::pin(turns.take_to_enable(&one));
    assert!(waits(&mut second).await);
    assert_eq!(turns.halted(&one), None);
    drop(first);
    let second = second.await.unwrap();
    let mut uninstall = Box::pin(turns.take(&one, Kind::Uninstall));
    assert!(waits(&mut uninstall).await);
    assert_eq!(turns.halted(&one), Some(Halt::Uninstalled));
    let share = turns.share(&one, Request::Disable).unwrap();
    assert_eq!(turns.halted(&one), Some(Halt::Disabled), "that it stays disabled counts more");
    drop(second);
    assert!(waits(&mut uninstall).await);
    drop(share);
    uninstall.await;
}
