//! The lanes as AVX2 and FMA registers, and the one door into code compiled for them.
//! The only room with `unsafe`: see [`Avx2`] for why each use is sound.
#![allow(unsafe_code)]

use crate::lanes::{Lanes, Work};
use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Sub};

/// Eight f32 in one register. The network asks for these lanes only when `Kernel::Fast` was asked for, which is refused
/// where [`is_available`] says no; so wherever one of them exists, the instructions do.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256);

/// Whether this machine has what the functions of this room need.
pub(crate) fn is_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

macro_rules! by_instruction {
    ($trait:ident, $method:ident, $instruction:ident) => {
        impl $trait for Avx2 {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(unsafe { $instruction(self.0, other.0) })
            }
        }
    };
}

by_instruction!(Add, add, _mm256_add_ps);
by_instruction!(Sub, sub, _mm256_sub_ps);
by_instruction!(Mul, mul, _mm256_mul_ps);
by_instruction!(Div, div, _mm256_div_ps);

impl Avx2 {
    #[inline(always)]
    fn bits(self) -> __m256i {
        unsafe { _mm256_castps_si256(self.0) }
    }

    /// The upper half added to the lower.
    #[inline(always)]
    fn fold(self) -> __m128 {
        unsafe { _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0)) }
    }

    #[inline(always)]
    fn from_bits(bits: __m256i) -> Self {
        Self(unsafe { _mm256_castsi256_ps(bits) })
    }
}

impl Lanes for Avx2 {
    #[inline(always)]
    fn load(from: &[f32; 8]) -> Self {
        Self(unsafe { _mm256_loadu_ps(from.as_ptr()) })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; 8]) {
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    fn splat_bits(bits: i32) -> Self {
        Self::from_bits(unsafe { _mm256_set1_epi32(bits) })
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    fn mul_sub(self, factor: Self, subtrahend: Self) -> Self {
        Self(unsafe { _mm256_fmsub_ps(self.0, factor.0, subtrahend.0) })
    }

    #[inline(always)]
    fn less_product(self, a: Self, b: Self) -> Self {
        Self(unsafe { _mm256_fnmadd_ps(a.0, b.0, self.0) })
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(unsafe { _mm256_sqrt_ps(self.0) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(unsafe { _mm256_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn if_less(self, than: Self, yes: Self, no: Self) -> Self {
        Self(unsafe { _mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, than.0)) })
    }

    #[inline(always)]
    fn bits_and(self, other: Self) -> Self {
        Self(unsafe { _mm256_and_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn bits_or(self, other: Self) -> Self {
        Self(unsafe { _mm256_or_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn bits_add(self, other: Self) -> Self {
        Self::from_bits(unsafe { _mm256_add_epi32(self.bits(), other.bits()) })
    }

    #[inline(always)]
    fn bits_sub(self, other: Self) -> Self {
        Self::from_bits(unsafe { _mm256_sub_epi32(self.bits(), other.bits()) })
    }

    #[inline(always)]
    fn bits_to_exponent(self) -> Self {
        Self::from_bits(unsafe { _mm256_slli_epi32::<23>(self.bits()) })
    }

    #[inline(always)]
    fn bits_from_exponent(self) -> Self {
        Self::from_bits(unsafe { _mm256_srai_epi32::<23>(self.bits()) })
    }

    #[inline(always)]
    fn bits_half(self) -> Self {
        Self::from_bits(unsafe { _mm256_srai_epi32::<1>(self.bits()) })
    }

    #[inline(always)]
    fn bits_to_float(self) -> Self {
        Self(unsafe { _mm256_cvtepi32_ps(self.bits()) })
    }

    fn run<W: Work>(work: W) -> W::Result {
        unsafe { run(work) }
    }

    #[inline(always)]
    fn sums([a, b, c, d]: [Self; 4]) -> [f32; 4] {
        unsafe {
            let (a, b, c, d) = (a.fold(), b.fold(), c.fold(), d.fold());
            let ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b)); // [a02, b02, a13, b13]
            let cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
            let sums = _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
            let mut out = [0.0; 4];
            _mm_storeu_ps(out.as_mut_ptr(), sums);
            out
        }
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline(never)]
fn run<W: Work>(work: W) -> W::Result {
    work.work::<Avx2>()
}
