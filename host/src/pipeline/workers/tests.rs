//! Of the queues alone, and of threads whose jobs are no guests.

use super::queues::Share;
use super::*;
use std::sync::mpsc::sync_channel;

fn tenant(name: &str) -> TenantId {
    name.into()
}

fn queued(queues: &mut Queues, of: &str, lane: LaneId, jobs: usize) {
    for _ in 0..jobs {
        queues.push(&tenant(of), lane, Box::new(|_| {}));
    }
}

fn taken(queues: &mut Queues) -> Option<Taken> {
    taken_at(queues, 0)
}

fn taken_at(queues: &mut Queues, now_ns: u64) -> Option<Taken> {
    match queues.next(now_ns, false) {
        Next::Run(taken) => Some(taken),
        Next::Wait(_) => None,
    }
}

fn start(threads: usize) -> std::io::Result<Workers> {
    Workers::start(threads, Arc::default(), WarmBounds::default())
}

/// Takes the next job, which uses so many milliseconds of CPU.
fn run(queues: &mut Queues, ms: u64) -> Option<(String, LaneId)> {
    let Taken { tenant, lane, ticket, .. } = taken(queues)?;
    queues.done(&tenant, lane, ticket, ms * 1_000_000);
    Some((tenant.to_string(), lane))
}

#[test]
fn lanes_of_a_tenant_take_turns_by_what_they_used() {
    let mut queues = Queues::new(2, Arc::default());
    for lane in [1, 2, 3] {
        queued(&mut queues, "a", lane, 2);
    }
    let cost = |lane| [0, 5, 1, 2][lane as usize];
    let mut order = Vec::new();
    while let Some(Taken { tenant, lane, ticket, .. }) = taken(&mut queues) {
        queues.done(&tenant, lane, ticket, cost(lane));
        order.push(lane);
    }
    assert_eq!(order[3..], [2, 3, 1], "{order:?}");
}

#[test]
fn tenant_with_many_streams_gets_no_more_than_one_with_one() {
    let mut queues = Queues::new(2, Arc::default());
    (0..50).for_each(|lane| queued(&mut queues, "many", lane, 10));
    queued(&mut queues, "one", 99, 100);
    let ran: Vec<String> = (0..100).map_while(|_| Some(run(&mut queues, 10)?.0)).collect();
    let of_one = ran.iter().filter(|tenant| *tenant == "one").count();
    assert!((49..=51).contains(&of_one), "{of_one}");
}

#[test]
fn tenant_that_slept_makes_up_for_nothing() {
    let mut queues = Queues::new(2, Arc::default());
    queued(&mut queues, "busy", 1, 30);
    (0..20).for_each(|_| drop(run(&mut queues, 10)));
    queued(&mut queues, "woken", 2, 30);
    let ran: Vec<String> = (0..20).map_while(|_| Some(run(&mut queues, 10)?.0)).collect();
    let of_busy = ran.iter().filter(|tenant| *tenant == "busy").count();
    assert!((9..=11).contains(&of_busy), "{ran:?}");
}

#[test]
fn tenant_that_slept_makes_up_for_nothing_either_while_every_job_of_the_others_is_on_its_way() {
    let mut queues = Queues::new(2, Arc::default());
    queued(&mut queues, "busy", 1, 20);
    (0..19).for_each(|_| drop(run(&mut queues, 10)));
    let on_its_way = taken(&mut queues).unwrap();
    queued(&mut queues, "woken", 2, 30);
    queued(&mut queues, "busy", 1, 30);
    queues.done(&on_its_way.tenant, on_its_way.lane, on_its_way.ticket, 10_000_000);
    let ran: Vec<String> = (0..20).map_while(|_| Some(run(&mut queues, 10)?.0)).collect();
    let of_busy = ran.iter().filter(|tenant| *tenant == "busy").count();
    assert!((9..=11).contains(&of_busy), "{ran:?}");
}

#[test]
fn tenants_with_long_jobs_leave_a_thread_to_the_others() {
    let mut queues = Queues::new(2, Arc::default());
    queued(&mut queues, "slow", 1, 5);
    queued(&mut queues, "slower", 2, 5);
    run(&mut queues, 500).unwrap();
    run(&mut queues, 900).unwrap();
    let first = taken(&mut queues).unwrap();
    assert!(taken(&mut queues).is_none(), "one thread of two is not for them");
    queued(&mut queues, "quick", 3, 1);
    assert_eq!(run(&mut queues, 1).unwrap().0, "quick");
    assert!(queues.done(&first.tenant, first.lane, first.ticket, 1_000_000));
    assert!(taken(&mut queues).is_some());
}

#[test]
fn tenant_that_is_alone_holds_all_threads() {
    let mut queues = Queues::new(2, Arc::default());
    queued(&mut queues, "a", 1, 5);
    run(&mut queues, 500).unwrap();
    assert!(taken(&mut queues).is_some() && taken(&mut queues).is_some());
}

#[test]
fn tenant_whose_jobs_became_short_is_slow_no_more() {
    let mut queues = Queues::new(2, Arc::default());
    queued(&mut queues, "a", 1, 40);
    run(&mut queues, 1_000).unwrap();
    assert!(queues.shares.values().all(Share::is_slow));
    (0..30).for_each(|_| drop(run(&mut queues, 1)));
    assert!(!queues.shares.values().any(Share::is_slow));
}

#[test]
fn tenant_of_which_nothing_is_known_holds_one_thread() {
    let mut queues = Queues::new(2, Arc::default());
    queued(&mut queues, "new", 1, 3);
    queued(&mut queues, "other", 2, 1);
    run(&mut queues, 1).unwrap();
    run(&mut queues, 1).unwrap();
    queued(&mut queues, "newer", 3, 3);
    queued(&mut queues, "other", 2, 1);
    let first = (0..2).map(|_| taken(&mut queues).unwrap()).find(|taken| &*taken.tenant == "newer").unwrap();
    assert!(queues.running.iter().filter(|job| &*job.tenant == "newer").count() == 1);
    assert!(queues.done(&first.tenant, first.lane, first.ticket, 1), "others may take its jobs now");
    assert!(taken(&mut queues).is_some());
}

#[test]
fn job_that_holds_its_thread_for_long_is_one_too_many() {
    let mut queues = Queues::new(1, Arc::default());
    queued(&mut queues, "long", 1, 1);
    let _long = taken_at(&mut queues, 0).unwrap();
    queued(&mut queues, "short", 2, 2);
    assert!(taken_at(&mut queues, HELD_NS - 1).is_none());
    assert_eq!(&*taken_at(&mut queues, HELD_NS).unwrap().tenant, "short");
    assert!(taken_at(&mut queues, HELD_NS).is_none(), "as many at a time as there are threads, but for it");
}

#[test]
fn tenant_whose_job_turns_out_to_be_long_is_slow_before_it_is_done() {
    let mut queues = Queues::new(2, Arc::default());
    queued(&mut queues, "quick", 1, 1);
    queued(&mut queues, "turned", 2, 3);
    (0..2).for_each(|_| drop(run(&mut queues, 1)));
    let long = taken_at(&mut queues, 0).unwrap();
    assert_eq!(&*long.tenant, "turned");
    queued(&mut queues, "quick", 1, 1);
    assert_eq!(&*taken_at(&mut queues, LONG_JOB_NS).unwrap().tenant, "quick");
    assert!(taken_at(&mut queues, LONG_JOB_NS + HELD_NS).is_none(), "what turned waits for itself");
}

#[test]
fn job_of_a_tenant_that_runs_already_is_none_for_a_thread_that_stands_by() {
    let mut queues = Queues::new(1, Arc::default());
    queued(&mut queues, "busy", 1, 3);
    run(&mut queues, 1).unwrap();
    let _long = taken_at(&mut queues, 0).unwrap();
    assert!(matches!(queues.next(UNKNOWN_NS, true), Next::Wait(_)));
    queued(&mut queues, "other", 2, 1);
    assert!(matches!(queues.next(UNKNOWN_NS - 1, true), Next::Wait(_)), "it may take longer than what runs");
    let other = match queues.next(UNKNOWN_NS, true) {
        Next::Run(taken) => taken,
        Next::Wait(_) => panic!("nothing to do"),
    };
    assert_eq!(&*other.tenant, "other");
    queues.done(&other.tenant, other.lane, other.ticket, HELD_NS);
    queued(&mut queues, "other", 2, 1);
    assert!(
        matches!(queues.next(HELD_NS, true), Next::Run(taken) if &*taken.tenant == "other"),
        "it takes little"
    );
}

#[test]
fn jobs_of_others_run_while_every_thread_is_held() {
    let workers = start(2).unwrap();
    let (go, wait) = sync_channel::<()>(0);
    let wait = Arc::new(Mutex::new(wait));
    // All at once, while the threads wait: nobody knows yet that they will be held.
    for (lane, tenant_name) in [(1, "one"), (2, "two")] {
        let wait = Arc::clone(&wait);
        workers.submit(&tenant(tenant_name), lane, move |_| wait.lock().unwrap().recv().unwrap());
    }
    let (tx, rx) = sync_channel(8);
    for job in 0..8 {
        let tx = tx.clone();
        workers.submit(&tenant("three"), 3, move |_| tx.send(job).unwrap());
    }
    let ran: Vec<i32> = (0..8).map_while(|_| rx.recv_timeout(Duration::from_secs(60)).ok()).collect();
    go.send(()).unwrap();
    go.send(()).unwrap();
    assert_eq!(ran, (0..8).collect::<Vec<_>>());
}

#[test]
fn one_thread_runs_long_jobs_too() {
    let mut queues = Queues::new(1, Arc::default());
    queued(&mut queues, "a", 1, 2);
    run(&mut queues, 1_000).unwrap();
    assert!(run(&mut queues, 1_000).is_some());
}

#[test]
fn worker_survives_a_panicking_job() {
    let workers = start(1).unwrap();
    let (tx, rx) = sync_channel(1);
    workers.submit(&tenant("a"), 1, |_| panic!("expected by the test"));
    workers.submit(&tenant("a"), 1, move |_| tx.send(7).unwrap());
    assert_eq!(rx.recv().unwrap(), 7);
}

#[test]
fn retired_lane_drops_what_is_queued_and_others_go_on() {
    let workers = start(1).unwrap();
    let (tx, rx) = sync_channel(4);
    let (go, wait) = sync_channel::<()>(0);
    workers.submit(&tenant("a"), 1, move |_| wait.recv().unwrap());
    let dropped = tx.clone();
    workers.submit(&tenant("a"), 2, move |_| dropped.send(2).unwrap());
    workers.retire(2);
    workers.submit(&tenant("b"), 3, move |_| tx.send(3).unwrap());
    go.send(()).unwrap();
    assert_eq!(rx.iter().collect::<Vec<_>>(), [3]);
}

#[test]
fn drop_runs_what_was_queued() {
    let (tx, rx) = sync_channel(64);
    {
        let workers = start(2).unwrap();
        for i in 0..64 {
            let tx = tx.clone();
            workers.submit(&tenant("a"), i % 3, move |_| tx.send(i).unwrap());
        }
    }
    drop(tx);
    assert_eq!(rx.iter().count(), 64);
}

/// Of a tenant that may use half a core.
fn half_a_core(queues: &Queues, of: &str) {
    let cpu = wasmill_tenant::Cores::new(0.5);
    queues.quotas.set(of, &wasmill_tenant::Quotas { cpu, ..Default::default() });
}

#[test]
fn tenant_past_its_cpu_waits_although_threads_idle_and_others_do_not() {
    let mut queues = Queues::new(2, Arc::default());
    half_a_core(&queues, "half");
    queued(&mut queues, "half", 1, 100);
    let start = quotas::now();
    let mut now = start;
    // A job takes 100 ms of CPU, and runs as soon as it may.
    let mut ran = 0u64;
    while ran < 20 {
        match queues.next(now, false) {
            Next::Run(taken) => {
                now += 100_000_000;
                taken.quota.charge_cpu(100_000_000, now);
                queues.done(&taken.tenant, taken.lane, taken.ticket, 100_000_000);
                ran += 1;
            }
            Next::Wait(wait) => {
                let wait = wait.expect("a time when it may run again");
                assert!(wait <= Duration::from_millis(200), "{wait:?}");
                queued(&mut queues, "free", 2, 1);
                let other = taken_at(&mut queues, now).expect("the other tenant's job");
                assert_eq!(&*other.tenant, "free");
                queues.done(&other.tenant, other.lane, other.ticket, 0);
                now += u64::try_from(wait.as_nanos()).unwrap();
            }
        }
    }
    // Two seconds of CPU time at half a core, of which half a second was a burst at first.
    let took = now - start;
    assert!((2_900_000_000..=3_500_000_000).contains(&took), "{took} ns");
}

#[test]
fn what_is_queued_when_the_pool_ends_waits_for_no_quota() {
    let mut queues = Queues::new(1, Arc::default());
    half_a_core(&queues, "half");
    queued(&mut queues, "half", 1, 2);
    let now = quotas::now();
    let first = taken_at(&mut queues, now).unwrap();
    first.quota.charge_cpu(10_000_000_000, now);
    queues.done(&first.tenant, first.lane, first.ticket, 10_000_000_000);
    assert!(taken_at(&mut queues, now).is_none());
    queues.closed = true;
    assert!(taken_at(&mut queues, now).is_some());
}

#[test]
fn thread_wakes_by_itself_when_the_debt_is_over() {
    let quotas = Arc::new(Quotas::default());
    let cpu = wasmill_tenant::Cores::new(0.5);
    let quota = quotas.set("half", &wasmill_tenant::Quotas { cpu, ..Default::default() });
    let workers = Workers::start(1, quotas, WarmBounds::default()).unwrap();
    // A second of burst, and a tenth more.
    quota.charge_cpu(600_000_000, quotas::now());
    let before = std::time::Instant::now();
    let (tx, rx) = sync_channel(1);
    workers.submit(&tenant("half"), 1, move |_| tx.send(()).unwrap());
    rx.recv().unwrap();
    assert!(before.elapsed() >= Duration::from_millis(150), "{:?}", before.elapsed());
}
