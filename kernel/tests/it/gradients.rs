//! Outputs, losses and gradients beside the textbook network in f64.

use crate::dice::Example;
use crate::difference::{SHAPES, gradient_error};
use crate::oracle::{self, wide};
use kernel::{Head, Kernel, Workspace, student_t};

#[test]
fn outputs_are_the_textbooks() {
    for head in [Head::Mean, Head::StudentT] {
        for (inputs, hidden, look_back, n) in SHAPES.into_iter().chain([(3, 256, 15, 3)]) {
            let Example { shape, weights, x, .. } = Example::new(head, inputs, hidden, look_back, n);
            let mut ours = vec![];
            Workspace::new(shape, Kernel::best()).outputs(&weights, &x, &mut ours);
            assert_eq!(ours.len(), n * shape.outputs());
            for (window, ours) in x.chunks(look_back * inputs).zip(ours.chunks(shape.outputs())) {
                let theirs = oracle::outputs(&shape, &wide(&weights), &wide(window));
                for (ours, theirs) in ours.iter().zip(theirs) {
                    assert!((f64::from(*ours) - theirs).abs() < 3e-6, "{shape:?}: {ours} is not {theirs}");
                }
            }
        }
    }
}

#[test]
fn gradients_agree_with_central_differences() {
    for head in [Head::Mean, Head::StudentT] {
        for (inputs, hidden, look_back, n) in SHAPES {
            let worst = gradient_error(&Example::new(head, inputs, hidden, look_back, n));
            assert!(worst <= 1e-5, "{head:?}, {inputs} inputs, {hidden} units: relative error {worst:.1e}");
        }
    }
}

#[test]
fn the_student_t_is_read_as_it_is_trained() {
    let (mu, s, nu) = student_t([0.5, -1.0, 0.25]);
    assert!((mu - 0.15).abs() < 1e-15, "{mu}");
    assert!((s - (-0.5f64).exp()).abs() < 1e-15, "{s}");
    assert!((nu - (2.6 + 1.75f64.exp().ln_1p())).abs() < 1e-14, "{nu}");
}
