//! The same bits: from both kernels, on repeat, in every thread, in a tile or alone.

use crate::dice::Example;
use kernel::math::{self, f32x8};
use kernel::{Adam, Head, Kernel, Workspace};

const HIDDEN: [usize; 5] = [1, 7, 20, 33, 64];
const INPUTS: [usize; 3] = [1, 3, 5];
const HEADS: [Head; 2] = [Head::Mean, Head::StudentT];

fn kernels() -> impl Iterator<Item = Kernel> {
    [Kernel::Fast, Kernel::Portable].into_iter().filter(|kernel| kernel.is_available())
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|v| v.to_bits()).collect()
}

/// Outputs, gradient and loss, as bits.
fn everything(workspace: &mut Workspace, example: &Example) -> (Vec<u32>, Vec<u32>, u64) {
    let (mut out, mut gradient) = (vec![], vec![0.0; example.weights.len()]);
    workspace.outputs(&example.weights, &example.x, &mut out);
    let loss = workspace.gradient(&example.weights, &example.x, &example.y, &mut gradient);
    (bits(&out), bits(&gradient), loss.to_bits())
}

#[test]
fn both_kernels_agree_on_forward_and_gradient() {
    if !Kernel::Fast.is_available() {
        return;
    }
    for (head, hidden, inputs) in grid() {
        let shape = Example::new(head, inputs, hidden, 3, 0).shape;
        let [mut fast, mut portable] = [Kernel::Fast, Kernel::Portable].map(|kernel| Workspace::new(shape, kernel));
        let step = if hidden <= 20 { 1 } else { 9 };
        for n in (1..=70).step_by(step) {
            let example = Example::new(head, inputs, hidden, 3, n);
            assert_eq!(everything(&mut fast, &example), everything(&mut portable, &example), "{shape:?}, {n} windows");
        }
    }
}

#[test]
fn both_kernels_agree_on_whole_trainings() {
    if !Kernel::Fast.is_available() {
        return;
    }
    for (head, hidden, inputs) in grid() {
        let example = Example::new(head, inputs, hidden, 7, 70);
        assert_eq!(train(Kernel::Fast, &example), train(Kernel::Portable, &example), "{:?}", example.shape);
    }
}

/// Six steps of training, twice over batches of 32, 32 and 6; weights, moments and losses as bits.
fn train(kernel: Kernel, example: &Example) -> (Vec<u32>, Vec<u32>, Vec<u64>) {
    let mut workspace = Workspace::new(example.shape, kernel);
    let (mut weights, mut adam) = (example.weights.clone(), Adam::new(example.weights.len()));
    let width = example.shape.look_back * example.shape.inputs;
    let mut losses = vec![];
    for _ in 0..2 {
        for (x, y) in example.x.chunks(32 * width).zip(example.y.chunks(32)) {
            losses.push(workspace.train_step(&mut weights, &mut adam, x, y, 1e-2, 0.5).to_bits());
        }
    }
    (bits(&weights), bits(&adam.moments), losses)
}

/// These numbers were taken on one machine and hold on all. A change of the order of operations changes them, and with
/// them what `replay` can prove about runs of earlier versions.
#[test]
fn the_bits_are_those_of_every_machine() {
    for kernel in kernels() {
        let found = HEADS.map(|head| {
            let (weights, moments, losses) = train(kernel, &Example::new(head, 5, 20, 15, 70));
            let losses = losses.into_iter().flat_map(|bits| [bits as u32, (bits >> 32) as u32]);
            digest(weights.into_iter().chain(moments).chain(losses))
        });
        assert_eq!(
            found.map(|digest| format!("{digest:016x}")),
            ["bb7b66f30c02e7f2", "cc0a4b430474107f"],
            "{kernel:?}"
        );
    }
}

/// FNV-1a over 32-bit words.
fn digest(words: impl Iterator<Item = u32>) -> u64 {
    words.fold(0xCBF2_9CE4_8422_2325, |hash, word| (hash ^ u64::from(word)).wrapping_mul(0x0000_0100_0000_01B3))
}

#[test]
fn our_functions_have_the_same_bits_everywhere() {
    let xs: Vec<f64> = (1..4000).map(|i| f64::from(i) * 0.0125).collect();
    let of_signs: [fn(f64) -> f64; 4] = [math::exp, math::tanh, math::sigmoid, math::softplus];
    let of_positives: [fn(f64) -> f64; 4] = [math::ln, math::ln_1p, math::lgamma, math::digamma];
    let both = of_signs.into_iter().flat_map(|of| xs.iter().flat_map(move |x| [of(*x), of(-x)]));
    let all = both.chain(of_positives.into_iter().flat_map(|of| xs.iter().map(move |x| of(*x))));
    let doubles = digest(all.map(f64::to_bits).flat_map(|bits| [bits as u32, (bits >> 32) as u32]));

    type Single = fn([f32; 8]) -> [f32; 8];
    let of_signs: [Single; 4] = [f32x8::exp, f32x8::tanh, f32x8::sigmoid, f32x8::softplus];
    let of_positives: [Single; 3] = [f32x8::ln, f32x8::lgamma, f32x8::digamma];
    let eights = || xs.as_chunks::<8>().0.iter().map(|eight| eight.map(|x| x as f32));
    let both = of_signs.into_iter().flat_map(|of| eights().flat_map(move |x| [of(x), of(x.map(|x| -x))]));
    let all = both.chain(of_positives.into_iter().flat_map(|of| eights().map(of)));
    let singles = digest(all.flatten().map(f32::to_bits));
    assert_eq!([doubles, singles].map(|digest| format!("{digest:016x}")), ["de7d4277f35a9b41", "a526a4e21cb5a67e"]);
}

#[test]
fn a_used_workspace_and_another_thread_change_nothing() {
    for head in HEADS {
        let example = Example::new(head, 5, 20, 15, 70);
        let once = train(Kernel::best(), &example);
        let elsewhere = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| train(Kernel::best(), &example))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(elsewhere.iter().all(|other| *other == once));

        let mut used = Workspace::new(example.shape, Kernel::best());
        let first = everything(&mut used, &example);
        for n in [3, 40, 16] {
            everything(&mut used, &Example::new(head, 5, 20, 15, n));
        }
        assert_eq!(everything(&mut used, &example), first);
    }
}

#[test]
fn one_window_gives_the_bits_of_many() {
    for kernel in kernels() {
        for (head, hidden, inputs) in grid() {
            let Example { shape, weights, x, .. } = Example::new(head, inputs, hidden, 15, 5);
            let mut workspace = Workspace::new(shape, kernel);
            let mut together = vec![];
            workspace.outputs(&weights, &x, &mut together);
            let mut alone = vec![0.0; shape.outputs()];
            for (window, expected) in x.chunks(15 * inputs).zip(together.chunks(shape.outputs())) {
                workspace.output_one(&weights, window, &mut alone);
                assert_eq!(bits(&alone), bits(expected), "{shape:?}, {kernel:?}");
            }
        }
    }
}

#[test]
fn numbers_that_are_none_go_through_without_a_crash() {
    for kernel in kernels() {
        for head in HEADS {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::from_bits(0x7F80_0001)] {
                let mut example = Example::new(head, 3, 7, 15, 20);
                example.x[7] = bad;
                example.y[11] = bad;
                train(kernel, &example);
                let mut alone = vec![0.0; example.shape.outputs()];
                Workspace::new(example.shape, kernel).output_one(&example.weights, &example.x[..45], &mut alone);
                assert_eq!(bad.is_nan(), alone.iter().all(|v| v.is_nan()), "{bad} came out as {alone:?}");
            }
        }
    }
}

fn grid() -> impl Iterator<Item = (Head, usize, usize)> {
    HEADS.into_iter().flat_map(|head| {
        HIDDEN.into_iter().flat_map(move |hidden| INPUTS.into_iter().map(move |inputs| (head, hidden, inputs)))
    })
}
