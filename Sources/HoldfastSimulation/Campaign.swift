/// Many runs, one seed after the other.
public struct Campaign: Sendable {
    public var firstSeed: UInt64
    public var runs: Int
    /// Virtual minutes of each; `nil` leaves it to the seed.
    public var minutes: Double?

    public init(firstSeed: UInt64, runs: Int, minutes: Double? = nil) {
        self.firstSeed = firstSeed
        self.runs = runs
        self.minutes = minutes
    }

    /// Sums over runs.
    public struct Tally: Codable, Sendable, Equatable {
        public var runs = 0
        public var virtualMinutes = 0.0
        public var steps = 0
        public var publications = 0
        public var messages = 0
        public var gaps = 0
        public var connects = 0
        public var faults = 0
        public var failures: [Failure] = []

        public init() {}

        public mutating func add(_ other: Tally) {
            self.runs += other.runs
            self.virtualMinutes += other.virtualMinutes
            self.steps += other.steps
            self.publications += other.publications
            self.messages += other.messages
            self.gaps += other.gaps
            self.connects += other.connects
            self.faults += other.faults
            self.failures += other.failures
        }
    }

    public struct Failure: Codable, Sendable, Equatable {
        public let seed: UInt64
        public let violation: Violation

        public init(seed: UInt64, violation: Violation) {
            self.seed = seed
            self.violation = violation
        }
    }

    public func run() throws -> Tally {
        var tally = Tally()
        for index in 0..<self.runs {
            let plan = Plan(seed: self.firstSeed &+ UInt64(index), minutes: self.minutes)
            let outcome = try Plan.run(plan)
            tally.runs += 1
            tally.virtualMinutes += outcome.virtualSeconds / 60
            tally.steps += outcome.steps
            tally.publications += outcome.publications
            tally.messages += outcome.messages
            tally.gaps += outcome.gaps
            tally.connects += outcome.connects
            tally.faults += plan.faults.count
            if let violation = outcome.violation {
                tally.failures.append(Failure(seed: plan.seed, violation: violation))
            }
        }
        return tally
    }
}

extension Plan {
    /// Makes the world of a plan and lets it run.
    /// - Parameter trace: gets what happens.
    public static func run(_ plan: Plan, trace: Trace? = nil) throws -> Outcome {
        try Simulation(plan, trace: trace).run()
    }
}
