//! One run: services, clients, load, and faults of the services at given times.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::arm::{Arm, Client, Extras, Guard};
use crate::load::{self, Load, Record};
use crate::series::Series;
use crate::service::{Service, Trouble};

/// Number of clients that share the load. Each stands for a process, with its own budget, breakers and connections.
const CLIENTS: usize = 8;

pub(crate) struct Stage {
    pub(crate) services: Vec<Service>,
    pub(crate) clients: Vec<Client>,
    /// Requests passed to the clients' transports.
    pub(crate) attempts: Series,
    pub(crate) base: Instant,
}

/// Settings of a stage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) arm: Arm,
    pub(crate) endpoints: usize,
    pub(crate) clients: usize,
    pub(crate) extras: Extras,
    /// True if a lock serializes the requests for the hot key.
    pub(crate) hot_lock: bool,
}

impl Plan {
    pub(crate) fn new(arm: Arm) -> Self {
        Self { arm, endpoints: 1, clients: CLIENTS, extras: Extras::default(), hot_lock: false }
    }
}

/// A change of a service at a time, in seconds from the start of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    Trouble { at: f64, endpoint: usize, trouble: Trouble },
    WorkTime { at: f64, endpoint: usize, work: Duration },
}

impl Stage {
    pub(crate) async fn build(plan: Plan) -> anyhow::Result<Self> {
        let base = Instant::now();
        let attempts = Series::new(base);
        let mut services = Vec::new();
        for _ in 0..plan.endpoints {
            services.push(Service::start(Guard(plan.arm, plan.extras), base, plan.hot_lock).await?);
        }
        let clients = (0..plan.clients)
            .map(|n| Client::new(plan.arm, plan.extras, &attempts, n as u64))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { services, clients, attempts, base })
    }

    /// Runs the load together with the events, which must be ordered by time.
    pub(crate) async fn run(&self, load: &Load, events: &[Event]) -> anyhow::Result<Vec<Record>> {
        let script = async {
            for event in events {
                let (Event::Trouble { at, .. } | Event::WorkTime { at, .. }) = event;
                sleep_until(self.base + Duration::from_secs_f64(*at)).await;
                match *event {
                    Event::Trouble { endpoint, trouble, .. } => {
                        self.services[endpoint].set_trouble(trouble).await?;
                    }
                    Event::WorkTime { endpoint, work, .. } => self.services[endpoint].set_work_time(work),
                }
            }
            anyhow::Ok(())
        };
        let (records, script) = tokio::join!(load::run(load, self), script);
        script?;
        Ok(records)
    }

    /// Requests that reached the services.
    pub(crate) fn arrivals(&self, from: f64, to: f64) -> f64 {
        self.services.iter().map(|service| service.state.arrivals.between(from, to)).sum()
    }

    /// Number of requests whose work started, and how many of them started after their deadline.
    pub(crate) fn started(&self) -> (u64, u64) {
        self.services.iter().fold((0, 0), |(started, late), service| {
            let state = &service.state;
            (
                started + state.started.load(Ordering::Relaxed),
                late + state.started_late.load(Ordering::Relaxed),
            )
        })
    }
}
