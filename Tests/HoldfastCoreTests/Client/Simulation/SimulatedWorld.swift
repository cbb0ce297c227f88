import HoldfastCore

/// SplitMix64: small, seeded, good enough to choose faults.
final class SeededRandom {
    private var state: UInt64

    init(_ seed: UInt64) {
        self.state = seed
    }

    /// In 0..<1.
    func next() -> Double {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var bits = self.state
        bits = (bits ^ (bits >> 30)) &* 0xBF58_476D_1CE4_E5B9
        bits = (bits ^ (bits >> 27)) &* 0x94D0_49BB_1331_11EB
        return Double((bits ^ (bits >> 31)) >> 11) / 9_007_199_254_740_992
    }

    func chance(_ probability: Double) -> Bool { self.next() < probability }

    func pick(_ range: Range<Int>) -> Int { range.lowerBound + Int(self.next() * Double(range.count)) }
}

/// Virtual time in milliseconds, and what is to happen in it.
final class VirtualClock {
    private struct Entry {
        let at: Int
        let order: Int
        let action: () -> Void

        func comes(before other: Entry) -> Bool {
            self.at < other.at || (self.at == other.at && self.order < other.order)
        }
    }

    private(set) var now = 0
    /// A binary heap.
    private var heap: [Entry] = []
    private var order = 0

    var instant: Instant { Instant(microseconds: Int64(self.now) * 1000) }

    func at(_ time: Int, _ action: @escaping () -> Void) {
        self.order += 1
        self.heap.append(Entry(at: max(time, self.now), order: self.order, action: action))
        var index = self.heap.count - 1
        while index > 0, self.heap[index].comes(before: self.heap[(index - 1) / 2]) {
            self.heap.swapAt(index, (index - 1) / 2)
            index = (index - 1) / 2
        }
    }

    func after(_ delay: Int, _ action: @escaping () -> Void) {
        self.at(self.now + delay, action)
    }

    func run(until end: Int) {
        while let first = self.heap.first, first.at <= end {
            self.removeFirst()
            self.now = first.at
            first.action()
        }
        self.now = end
    }

    private func removeFirst() {
        self.heap.swapAt(0, self.heap.count - 1)
        self.heap.removeLast()
        var index = 0
        while true {
            var least = index
            for child in [2 * index + 1, 2 * index + 2] where child < self.heap.count {
                if self.heap[child].comes(before: self.heap[least]) { least = child }
            }
            guard least != index else { return }
            self.heap.swapAt(index, least)
            index = least
        }
    }
}

/// What all lines have in common.
final class SimulatedNetwork {
    enum Opening {
        case good, refused, hanging
    }

    /// Nothing passes until then.
    var cutUntil = 0
    var opening = Opening.good
    private let clock: VirtualClock
    private let random: SeededRandom
    private let slow: Int
    /// Until then single packets may be very late.
    private let troubleUntil: Int

    init(clock: VirtualClock, random: SeededRandom, troubleUntil: Int) {
        self.clock = clock
        self.random = random
        self.troubleUntil = troubleUntil
        self.slow = random.pick(5..<400)
    }

    func latency() -> Int {
        let isLate = self.clock.now < self.troubleUntil && self.random.chance(0.002)
        return self.slow + self.random.pick(0..<(1 + self.slow / 2)) + (isLate ? self.random.pick(0..<12_000) : 0)
    }
}

/// One direction of a connection: in order, and late rather than never, except where it is cut for good.
final class SimulatedPipe {
    private let clock: VirtualClock
    private let network: SimulatedNetwork
    private var cutUntil = 0
    private var last = 0

    init(clock: VirtualClock, network: SimulatedNetwork) {
        self.clock = clock
        self.network = network
    }

    /// What is swallowed for good (`.max`) never comes back.
    func cut(until time: Int) {
        self.cutUntil = max(self.cutUntil, time)
    }

    func send(_ deliver: @escaping () -> Void) {
        let start = max(self.clock.now, self.cutUntil, self.network.cutUntil)
        guard start < .max else { return }
        self.last = max(self.last, start + self.network.latency())
        self.clock.at(self.last, deliver)
    }
}
