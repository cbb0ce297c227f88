/// Chance, from a seed (SplitMix64). A class, since many draw from the same one.
///
/// `@unchecked Sendable`: see ``Agenda``.
final class Dice: RandomNumberGenerator, @unchecked Sendable {
    private var random: SplitMix64

    /// - Parameters:
    ///   - purpose: so that those who draw for different things do not disturb each other: what one draws more or less leaves
    ///     the others' chance as it was, and a run that is made smaller remains much the same.
    init(seed: UInt64, purpose: UInt64 = 0) {
        self.random = SplitMix64(seed: seed &* 0x9E37_79B9_7F4A_7C15 ^ purpose &* 0xD1B5_4A32_D192_ED03)
        _ = self.next()
    }

    func next() -> UInt64 { self.random.next() }

    /// In 0..<1.
    func share() -> Double { self.random.fraction() }

    func chance(_ probability: Double) -> Bool { self.share() < probability }

    func between(_ low: Double, _ high: Double) -> Double { low + (high - low) * self.share() }

    func number(_ range: Range<Int>) -> Int { range.lowerBound + Int(self.next() % UInt64(range.count)) }

    func one<Element>(of elements: [Element]) -> Element { elements[self.number(0..<elements.count)] }

    /// Times between things that happen every `mean` seconds (a Poisson process).
    func wait(mean: Double) -> Double {
        // 1 - share is never 0.
        -mean * _log(1 - self.share())
    }
}

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

private func _log(_ value: Double) -> Double { log(value) }
