//! Eight numbers worked on side by side: the operations that every machine does alike, and nothing else.
//! All arithmetic of the network is written once, over this trait; its implementers therefore agree bit for bit.

use std::array::from_fn;
use std::ops::{Add, Div, Mul, Sub};

/// Eight f32 in memory, aligned to a vector register; also the portable [`Lanes`].
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(crate) struct Eight(pub [f32; 8]);

impl Eight {
    pub(crate) const ZERO: Self = Self([0.0; 8]);
}

/// What can be done with eight f32 at once. Each operation is correctly rounded, or moves bits.
pub(crate) trait Lanes:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    fn load(from: &[f32; 8]) -> Self;
    fn store(self, to: &mut [f32; 8]);
    /// The same number in all lanes.
    fn splat(value: f32) -> Self;
    /// The same bits in all lanes.
    fn splat_bits(bits: i32) -> Self;

    /// `self · factor + addend`, rounded once.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// `self · factor − subtrahend`, rounded once.
    fn mul_sub(self, factor: Self, subtrahend: Self) -> Self;
    /// `self − a · b`, rounded once.
    fn less_product(self, a: Self, b: Self) -> Self;
    fn sqrt(self) -> Self;
    /// `self` where it is less than `other`, else `other`: a NaN on the right survives, one on the left does not.
    fn min(self, other: Self) -> Self;
    /// `self` where it is greater than `other`, else `other`.
    fn max(self, other: Self) -> Self;
    /// `yes` where `self` is less than `than`, else `no`, also where one of the two is NaN.
    fn if_less(self, than: Self, yes: Self, no: Self) -> Self;

    fn bits_and(self, other: Self) -> Self;
    fn bits_or(self, other: Self) -> Self;
    /// The lanes' bits added as 32-bit integers.
    fn bits_add(self, other: Self) -> Self;
    /// The lanes' bits subtracted as 32-bit integers.
    fn bits_sub(self, other: Self) -> Self;
    /// The lanes' bits moved up by 23: from a whole number to the place of the exponent.
    fn bits_to_exponent(self) -> Self;
    /// The lanes' bits moved down by 23, keeping the sign: from the place of the exponent to a whole number.
    fn bits_from_exponent(self) -> Self;
    /// The lanes' bits, read as a 32-bit integer, halved and rounded down.
    fn bits_half(self) -> Self;
    /// The lanes' bits, read as a 32-bit integer, as a float.
    fn bits_to_float(self) -> Self;

    /// Does the work in code that is compiled for these lanes. Each work becomes a function of its own, so that the
    /// sums of its innermost loop find all registers free.
    fn run<W: Work>(work: W) -> W::Result;

    /// The sum over the lanes of each of four: ((0+4)+(2+6)) + ((1+5)+(3+7)), because that is how registers fold.
    fn sums(four: [Self; 4]) -> [f32; 4];

    /// The number without its sign.
    #[inline(always)]
    fn abs(self) -> Self {
        self.bits_and(Self::splat_bits(i32::MAX))
    }

    /// Zero minus the number.
    #[inline(always)]
    fn negated(self) -> Self {
        Self::splat(0.0) - self
    }
}

/// Something to be computed with lanes: the arguments of a function, waiting for [`Lanes::run`]. All that `work` calls
/// has to be `#[inline(always)]`: code compiled apart from it would not be compiled for these lanes.
pub(crate) trait Work {
    type Result;
    fn work<L: Lanes>(self) -> Self::Result;
}

/// The polynomial with these coefficients, the highest first.
#[inline(always)]
pub(crate) fn polynomial<L: Lanes, const N: usize>(x: L, coefficients: [f32; N]) -> L {
    let mut sum = L::splat(coefficients[0]);
    for coefficient in &coefficients[1..] {
        sum = sum.mul_add(x, L::splat(*coefficient));
    }
    sum
}

macro_rules! lane_by_lane {
    ($trait:ident, $method:ident, $operator:tt) => {
        impl $trait for Eight {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(from_fn(|lane| self.0[lane] $operator other.0[lane]))
            }
        }
    };
}

lane_by_lane!(Add, add, +);
lane_by_lane!(Sub, sub, -);
lane_by_lane!(Mul, mul, *);
lane_by_lane!(Div, div, /);

impl Eight {
    #[inline(always)]
    fn map_bits(self, change: impl Fn(i32) -> i32) -> Self {
        Self(self.0.map(|lane| f32::from_bits(change(lane.to_bits() as i32) as u32)))
    }

    #[inline(always)]
    fn zip_bits(self, other: Self, join: impl Fn(i32, i32) -> i32) -> Self {
        Self(from_fn(|lane| f32::from_bits(join(self.0[lane].to_bits() as i32, other.0[lane].to_bits() as i32) as u32)))
    }
}

impl Lanes for Eight {
    #[inline(always)]
    fn load(from: &[f32; 8]) -> Self {
        Self(*from)
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; 8]) {
        *to = self.0;
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; 8])
    }

    #[inline(always)]
    fn splat_bits(bits: i32) -> Self {
        Self([f32::from_bits(bits as u32); 8])
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self(from_fn(|lane| self.0[lane].mul_add(factor.0[lane], addend.0[lane])))
    }

    #[inline(always)]
    fn mul_sub(self, factor: Self, subtrahend: Self) -> Self {
        Self(from_fn(|lane| self.0[lane].mul_add(factor.0[lane], -subtrahend.0[lane])))
    }

    #[inline(always)]
    fn less_product(self, a: Self, b: Self) -> Self {
        Self(from_fn(|lane| (-a.0[lane]).mul_add(b.0[lane], self.0[lane])))
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(self.0.map(f32::sqrt))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.if_less(other, self, other)
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        other.if_less(self, self, other)
    }

    #[inline(always)]
    fn if_less(self, than: Self, yes: Self, no: Self) -> Self {
        Self(from_fn(|lane| if self.0[lane] < than.0[lane] { yes.0[lane] } else { no.0[lane] }))
    }

    #[inline(always)]
    fn bits_and(self, other: Self) -> Self {
        self.zip_bits(other, |a, b| a & b)
    }

    #[inline(always)]
    fn bits_or(self, other: Self) -> Self {
        self.zip_bits(other, |a, b| a | b)
    }

    #[inline(always)]
    fn bits_add(self, other: Self) -> Self {
        self.zip_bits(other, i32::wrapping_add)
    }

    #[inline(always)]
    fn bits_sub(self, other: Self) -> Self {
        self.zip_bits(other, i32::wrapping_sub)
    }

    #[inline(always)]
    fn bits_to_exponent(self) -> Self {
        self.map_bits(|bits| bits << 23)
    }

    #[inline(always)]
    fn bits_from_exponent(self) -> Self {
        self.map_bits(|bits| bits >> 23)
    }

    #[inline(always)]
    fn bits_half(self) -> Self {
        self.map_bits(|bits| bits >> 1)
    }

    #[inline(always)]
    fn bits_to_float(self) -> Self {
        Self(self.0.map(|lane| lane.to_bits() as i32 as f32))
    }

    fn run<W: Work>(work: W) -> W::Result {
        work.work::<Self>()
    }

    #[inline(always)]
    fn sums(four: [Self; 4]) -> [f32; 4] {
        four.map(|Self(l)| ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7])))
    }
}
