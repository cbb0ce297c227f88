/// Shared by the machines of one run, each of which keeps a closure that asks it: one generator for all, so that a
/// machine costs no more memory than it has to.
final class HerdDice {
    private var random: SplitMix64

    init(seed: UInt64) { self.random = SplitMix64(seed: seed) }

    func throwOnce() -> Double { self.random.fraction() }
}
