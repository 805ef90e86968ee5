//! Benchmark of every layer of mainstay beside its peers, in interleaved rounds. It prints one table.

mod measure;
mod quick;
mod table;

use std::collections::HashMap;
use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};
use layer_benches::growth::{self, Filled};
use layer_benches::{Baseline, Instance, Variant, all, traps};

use self::measure::Spread;

#[derive(Debug, Parser)]
#[command(about = "Each layer of mainstay beside tower, tower-resilience, failsafe and recloser")]
struct Arguments {
    /// Checks allocations, instructions and traps, which do not depend on speed. Measures no time.
    #[arg(long)]
    quick: bool,
    /// Number of rounds. Each round measures every row once.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Measures only rows whose id contains this text.
    #[arg(long, default_value = "")]
    only: String,
    /// Measures only time, without instructions and allocations.
    #[arg(long)]
    time_only: bool,
    #[command(subcommand)]
    command: Option<One>,
}

#[derive(Debug, Subcommand)]
enum One {
    /// Makes the calls of one row and prints nothing, for callgrind.
    One { id: String, calls: usize },
    /// Lists the rows.
    List,
}

/// Figures of one row.
struct Row {
    variant: Variant,
    ns: Spread,
    added: Spread,
    two: Spread,
    relative: Spread,
    instructions: Option<f64>,
    allocations: Option<f64>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(One::One { id, calls }) => {
            instance(&id)?(calls);
            Ok(())
        }
        Some(One::List) => {
            for variant in all() {
                println!("{}", variant.id());
            }
            Ok(())
        }
        None if arguments.quick => quick::check(),
        None => whole(&arguments),
    }
}

fn instance(id: &str) -> anyhow::Result<Instance> {
    if let Some(variant) = all().into_iter().find(|v| v.id() == id) {
        return Ok((variant.make)());
    }
    let filled = growth::all().into_iter().find(|filled| filled.id() == id);
    filled
        .map(|filled| filled.make())
        .with_context(|| format!("no row has the id {id}; `list` prints all ids"))
}

fn whole(arguments: &Arguments) -> anyhow::Result<()> {
    let variants: Vec<Variant> =
        all().into_iter().filter(|v| v.group == "none" || v.id().contains(&arguments.only)).collect();
    let rows = timed(variants, arguments.rounds);
    let rows = if arguments.time_only { rows } else { counted(rows)? };
    table::layers(&rows);
    if arguments.only.is_empty() {
        table::growth(&grown(arguments)?);
        table::traps(&traps::set());
        if !arguments.time_only {
            table::bytes(&allocations()?);
        }
    }
    Ok(())
}

/// Measures the time of every row, once in each round.
fn timed(variants: Vec<Variant>, rounds: usize) -> Vec<Row> {
    struct Samples {
        instance: Instance,
        calls: usize,
        one: Vec<f64>,
        two: Vec<f64>,
    }
    let mut samples: Vec<Samples> = variants
        .iter()
        .map(|variant| {
            let instance = (variant.make)();
            let calls = measure::calls_of_a_sample(&instance);
            Samples { instance, calls, one: Vec::new(), two: Vec::new() }
        })
        .collect();
    for _ in 0..rounds {
        for row in &mut samples {
            row.one.push(measure::one_task(&row.instance, row.calls));
            row.two.push(measure::two_threads(&row.instance, row.calls));
        }
    }
    let baselines: HashMap<Baseline, Vec<f64>> = variants
        .iter()
        .zip(&samples)
        .filter(|(variant, _)| variant.group == "none")
        .map(|(variant, row)| (variant.baseline, row.one.clone()))
        .collect();
    let rows = variants.into_iter().zip(samples).map(|(variant, row)| {
        // Compare figures of the same round, so that other work on the machine affects both sides.
        let both = |of: fn((&f64, &f64)) -> f64, other: &[f64]| {
            Spread::of(&row.one.iter().zip(other).map(of).collect::<Vec<_>>())
        };
        let baseline = baselines.get(&variant.baseline).map_or(&[][..], Vec::as_slice);
        Row {
            ns: Spread::of(&row.one),
            added: both(|(own, base)| own - base, baseline),
            two: Spread::of(&row.two),
            relative: both(|(one, two)| 2.0 * one / two, &row.two),
            variant,
            instructions: None,
            allocations: None,
        }
    });
    rows.collect()
}

/// Adds the instructions and allocations of each row.
fn counted(mut rows: Vec<Row>) -> anyhow::Result<Vec<Row>> {
    let ids: Vec<String> = rows.iter().map(|row| row.variant.id()).collect();
    let instructions: Vec<f64> =
        measure::in_pairs(&ids, |id| measure::instructions(id)).into_iter().collect::<Result<_, _>>()?;
    let allocations = allocations()?;
    for (row, instructions) in rows.iter_mut().zip(&instructions) {
        row.instructions = Some(*instructions);
        row.allocations = allocations.get(&row.variant.id()).map(|(count, _)| *count);
    }
    Ok(rows)
}

/// Allocations and bytes per call of each row, counted by the separate binary.
fn allocations() -> anyhow::Result<HashMap<String, (f64, f64)>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--package", "layer-benches", "--bin", "allocations"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.output().context("starting cargo to run the allocation counter")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)?
        .lines()
        .map(|line| {
            let mut parts = line.split('\t');
            let mut next = || parts.next().with_context(|| format!("expected three parts in {line:?}"));
            Ok((next()?.to_owned(), (next()?.parse()?, next()?.parse()?)))
        })
        .collect()
}

/// Cost of a breaker whose window holds a number of calls.
struct Grown {
    filled: Filled,
    ns: Spread,
    instructions: Option<f64>,
}

fn grown(arguments: &Arguments) -> anyhow::Result<Vec<Grown>> {
    // Few calls per sample, because the measured calls also fill the window.
    const CALLS: usize = 200;
    growth::all()
        .into_iter()
        .map(|filled| {
            let instance = filled.make();
            let samples: Vec<f64> =
                (0..arguments.rounds.min(5)).map(|_| measure::one_task(&instance, CALLS)).collect();
            // A peer searches its window at each call, and filling a larger window takes minutes under callgrind.
            let counts = !arguments.time_only && filled.calls <= 10_000;
            let instructions = counts.then(|| measure::instructions(&filled.id())).transpose()?;
            Ok(Grown { ns: Spread::of(&samples), filled, instructions })
        })
        .collect()
}
