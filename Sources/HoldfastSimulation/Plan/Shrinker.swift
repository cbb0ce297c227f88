/// Makes a failing plan smaller for as long as it breaks the same promise (delta debugging: Zeller and Hildebrandt, 2002).
public struct Shrinker {
    /// Most runs that it may take.
    public var limit: Int

    private var tries = 0
    private let fails: (Plan) -> Violation.Promise?

    public init(limit: Int = 400) {
        self.limit = limit
        self.fails = { plan in (try? Plan.run(plan))?.violation?.promise }
    }

    /// - Returns: the smallest plan found; the same one if nothing can be left out.
    public mutating func shrink(_ plan: Plan, _ violation: Violation) -> Plan {
        var best = plan
        self.tries = 0
        var hasChanged = true
        while hasChanged, self.tries < self.limit {
            hasChanged = false
            for change in Self.changes {
                var smaller = best
                change(&smaller)
                guard smaller != best, smaller.minutes >= 0.1, self.breaks(smaller, violation.promise) else { continue }
                best = smaller
                hasChanged = true
            }
            if let fewer = self.withFewerFaults(best, violation.promise) {
                best = fewer
                hasChanged = true
            }
        }
        return best
    }

    private mutating func breaks(_ plan: Plan, _ promise: Violation.Promise) -> Bool {
        guard self.tries < self.limit else { return false }
        self.tries += 1
        return self.fails(plan) == promise
    }

    /// Leaves out half of the faults, then a quarter, and so on down to single ones.
    private mutating func withFewerFaults(_ plan: Plan, _ promise: Violation.Promise) -> Plan? {
        var best = plan
        var size = max(1, plan.faults.count / 2)
        while true {
            var start = 0
            while start < best.faults.count {
                var smaller = best
                smaller.faults.removeSubrange(start..<min(start + size, best.faults.count))
                if self.breaks(smaller, promise) { best = smaller } else { start += size }
            }
            if size == 1 { break }
            size /= 2
        }
        return best.faults.count < plan.faults.count ? best : nil
    }

    /// Each makes one thing less.
    private static let changes: [@Sendable (inout Plan) -> Void] = [
        { $0.messageEvery = nil }, { $0.churnEvery = nil }, { $0.payload = 0 }, { $0.jitter = 0 },
        { $0.clockDrift = 0 }, { $0.latency = 0.001 }, { $0.nodes = 1 }, { $0.clients = 1 },
        { $0.topics = max(1, $0.topics - 1) }, { $0.bounds = Plan.Bounds() }, { $0.minutes /= 2 },
    ]
}
