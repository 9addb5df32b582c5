//! How near the kernel comes to what the core can do: `cargo run --release -p kernel --example speed`.
//! One JSON line for each figure. Times are the shortest of many, because other work on the machine only ever adds.

use kernel::{Adam, Head, Kernel, Shape, Workspace};
use std::hint::black_box;
use std::time::Instant;

fn main() {
    // A word after the command restricts the figures to those whose names hold it.
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let (small, large) = (univariate(20), univariate(64));
    let product = Shape { inputs: 5, hidden: 20, look_back: 15, head: Head::StudentT };
    let steps = [("step_20", small, 32), ("step_64", large, 32), ("step_product", product, 64)];
    for (name, shape, batch) in steps.into_iter().filter(|(name, ..)| name.contains(&wanted)) {
        print_step(name, shape, batch);
    }
    // A batch that fills no tile wastes lanes.
    if "finetune_small".contains(&wanted) {
        let epoch_s: f64 = [32, 32, 32, 14].into_iter().map(|batch| step(small, batch)).sum();
        println!(r#"{{"figure":"finetune_small","windows":110,"epochs":5,"us":{:.1}}}"#, 5.0 * epoch_s * 1e6);
    }
    let answers = [("output_one_20", small), ("output_one_64", large), ("output_one_product", product)];
    for (name, shape) in answers.into_iter().filter(|(name, _)| name.contains(&wanted)) {
        println!(r#"{{"figure":"{name}","us":{:.2}}}"#, output_one(shape) * 1e6);
    }
}

/// One input a step and a mean to learn, as the predecessor had it.
fn univariate(hidden: usize) -> Shape {
    Shape { inputs: 1, hidden, look_back: 15, head: Head::Mean }
}

fn print_step(name: &str, shape: Shape, batch: usize) {
    // The peak wanders with the load of the machine; the best of what was measured before and after counts.
    let before = fma_peak();
    let step_s = step(shape, batch);
    let peak = before.max(fma_peak());
    let gflops = flops(&shape) * batch as f64 / step_s / 1e9;
    println!(
        r#"{{"figure":"{name}","batch":{batch},"us":{:.2},"gflops":{gflops:.1},"peak_gflops":{peak:.1},"fraction_of_fma_peak":{:.3}}}"#,
        step_s * 1e6,
        gflops / peak
    );
}

/// Multiplications and additions of the matrix products in one window's training: three products with the recurrent
/// weights in all steps but the first, and as many with the input weights. Activations and Adam count for nothing.
fn flops(shape: &Shape) -> f64 {
    let Shape { inputs, hidden, look_back, .. } = *shape;
    (24 * hidden * hidden * (look_back - 1) + 24 * hidden * inputs * look_back) as f64
}

/// Seconds for the shortest of many training steps.
fn step(shape: Shape, batch: usize) -> f64 {
    let mut workspace = Workspace::new(shape, Kernel::best());
    let mut weights = ramp(shape.weights(), 0.2);
    let mut adam = Adam::new(weights.len());
    let (x, y) = (ramp(batch * shape.look_back * shape.inputs, 1.0), ramp(batch, 1.0));
    shortest(4000, || workspace.train_step(&mut weights, &mut adam, &x, &y, 1e-5, 1.0))
}

/// Seconds for the shortest of many answers, the laying out of the weights included.
fn output_one(shape: Shape) -> f64 {
    let mut workspace = Workspace::new(shape, Kernel::best());
    let (weights, x) = (ramp(shape.weights(), 0.2), ramp(shape.look_back * shape.inputs, 1.0));
    let mut out = vec![0.0; shape.outputs()];
    shortest(20_000, || workspace.output_one(&weights, black_box(&x), &mut out))
}

fn shortest<T>(rounds: usize, mut work: impl FnMut() -> T) -> f64 {
    let times = (0..rounds).map(|_| {
        let start = Instant::now();
        black_box(work());
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

/// Numbers between −limit and limit without a pattern.
fn ramp(n: usize, limit: f32) -> Vec<f32> {
    (0..n).map(|i| limit * ((i * 7919 % 2003) as f32 / 1001.5 - 1.0)).collect()
}

/// The most fused multiply-adds this core does, in GFLOP/s: ten sums in registers that do nothing else.
fn fma_peak() -> f64 {
    const ROUNDS: usize = 20_000;
    #[cfg(target_arch = "x86_64")]
    if Kernel::Fast.is_available() {
        #[allow(unsafe_code, reason = "the line above has asked whether the machine has the instructions")]
        let shortest = shortest(300, || unsafe { multiply_add(ROUNDS) });
        return (ROUNDS * 10 * 8 * 2) as f64 / shortest / 1e9;
    }
    let mut sums = [1.0f32; 80];
    let shortest = shortest(300, || {
        for _ in 0..ROUNDS / 10 {
            sums = black_box(sums.map(|sum| sum.mul_add(0.999, 0.001)));
        }
    });
    (ROUNDS / 10 * 80 * 2) as f64 / shortest / 1e9
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_add(rounds: usize) -> f32 {
    use std::arch::x86_64::{_mm256_add_ps, _mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
    let (factor, addend) = (black_box(_mm256_set1_ps(0.999)), black_box(_mm256_set1_ps(0.001)));
    let mut sums = [_mm256_set1_ps(1.0); 10];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, factor, addend);
        }
    }
    sums.into_iter().reduce(|a, b| _mm256_add_ps(a, b)).map_or(0.0, |all| _mm256_cvtss_f32(all))
}
