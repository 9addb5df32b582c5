//! How far the kernel's gradient is from central differences of the textbook network in f64: the worst of each network of the kernel's own tests.

#[path = "../../../kernel/tests/it/dice.rs"]
mod dice;
#[path = "../../../kernel/tests/it/difference.rs"]
mod difference;
#[path = "../../../kernel/tests/it/oracle.rs"]
mod oracle;

use dice::Example;
use kernel::Head;

/// One relative error for each head and shape.
pub(crate) fn errors() -> Vec<f64> {
    let of = |head| {
        difference::SHAPES.map(|(inputs, hidden, look_back, n)| {
            difference::gradient_error(&Example::new(head, inputs, hidden, look_back, n))
        })
    };
    [Head::Mean, Head::StudentT].into_iter().flat_map(of).collect()
}
