/// Says what of a script comes next, and when. Sans-IO.
public struct FaultScriptClock: Sendable {
    public struct Moment: Sendable, Equatable {
        /// Since the beginning.
        public var at: Duration
        public var line: Int
        public var commands: [FaultCommand]
    }

    private let script: FaultScript
    /// When this round began.
    private var round = Duration.zero
    /// Of each step, in this round; `nil`: done.
    private var next: [Duration?]

    public init(_ script: FaultScript) {
        self.script = script
        self.next = script.steps.map(\.first)
    }

    /// In the order of time, and of the lines at the same time. `nil`: the script is over.
    public mutating func nextMoment() -> Moment? {
        while true {
            let coming = self.next.indices.filter { self.next[$0] != nil }.min { self.next[$0]! < self.next[$1]! }
            if let coming, let at = self.next[coming], at < self.script.period ?? .seconds(Int64.max / 2) {
                return self.take(coming, at: at)
            }
            guard let period = self.script.period else { return nil }
            self.round += period
            self.next = self.script.steps.map(\.first)
        }
    }

    private mutating func take(_ index: Int, at: Duration) -> Moment {
        let step = self.script.steps[index]
        let again = step.interval.map { at + $0 }
        self.next[index] = again.flatMap { $0 <= step.last ?? $0 ? $0 : nil }
        return Moment(at: self.round + at, line: step.line, commands: step.commands)
    }
}

extension FaultProxy {
    /// Plays a script to its end, which it may not have, or until the task is cancelled.
    ///
    /// - Parameter say: told of each line before it is done, and of what went wrong with it.
    public func play(_ script: FaultScript, say: @Sendable (String) -> Void) async {
        var clock = FaultScriptClock(script)
        let began = ContinuousClock.now
        while let moment = clock.nextMoment() {
            do {
                try await Task.sleep(until: began + moment.at, clock: .continuous)
            } catch {
                return
            }
            for command in moment.commands {
                say("script, line \(moment.line): \(command)")
                do {
                    try await self.perform(command)
                } catch {
                    say("script, line \(moment.line): not done: \(error)")
                }
            }
        }
        say("the script is over; what stands stays")
    }
}
