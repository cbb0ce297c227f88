/// The calls of an invented company, as they would happen: they ring, are answered or not, are put on hold, get noisy, end.
///
/// Knows no clock and no randomness of its own, so the same seed gives the same day.
struct Switchboard {
    /// Calls at a time, about.
    static let busy = 8

    private(set) var calls: [Call] = []
    private var madeCalls = 0
    private var people = People()

    /// What happens next. There is always something: where no call is due to change, the sound of one does.
    ///
    /// - Parameter now: ms since 1970.
    mutating func next(now: Double, using random: inout some RandomNumberGenerator) -> (Call, CallEvent.What) {
        self.calls.removeAll { $0.state == .ended }
        if let due = self.calls.indices.min(by: { self.calls[$0].due < self.calls[$1].due }), self.calls[due].due <= now
        {
            let what = self.advance(due, now: now, using: &random)
            return (self.calls[due], what)
        }
        let talking = self.calls.indices.filter { self.calls[$0].state == .talking }
        if self.calls.count < Self.busy, talking.isEmpty || Int.random(in: 0..<4, using: &random) == 0 {
            self.calls.append(self.makeCall(now: now, using: &random))
            return (self.calls[self.calls.count - 1], .rings)
        }
        if let index = talking.randomElement(using: &random) {
            let sound = self.calls[index].sound ?? 4
            // Mostly good: it drifts back from noise faster than into it.
            let steps = sound <= 2 ? [1, 2] : sound == 5 ? [-1, -1, -2] : [1, 1, -1]
            self.calls[index].sound = min(5, max(1, sound + (steps.randomElement(using: &random) ?? 1)))
            return (self.calls[index], .sound)
        }
        // All lines ring and nobody talks: the first is answered early.
        let what = self.advance(0, now: now, using: &random)
        return (self.calls[0], what)
    }

    private mutating func makeCall(now: Double, using random: inout some RandomNumberGenerator) -> Call {
        self.madeCalls += 1
        let busyAgents = Set(self.calls.map(\.to.number))
        return Call(
            id: "call_\(self.madeCalls)",
            from: self.people.caller(using: &random),
            to: self.people.agent(notAmong: busyAgents, using: &random),
            began: now,
            due: now + .random(in: 1_500...5_000, using: &random),
            willBeAnswered: Int.random(in: 0..<8, using: &random) > 0,
            willBeHeld: Int.random(in: 0..<4, using: &random) == 0
        )
    }

    /// The call's own course: ringing → talking (→ on hold → talking) → ended.
    private mutating func advance(
        _ index: Int,
        now: Double,
        using random: inout some RandomNumberGenerator
    ) -> CallEvent.What {
        switch self.calls[index].state {
        case .ringing where !self.calls[index].willBeAnswered:
            self.end(index, now: now)
            return .unanswered
        case .ringing:
            let hangUp = now + .random(in: 6_000...28_000, using: &random)
            self.calls[index].state = .talking
            self.calls[index].answered = now
            self.calls[index].sound = 4
            self.calls[index].hangUp = hangUp
            self.calls[index].due = self.calls[index].willBeHeld ? (now + hangUp) / 2 : hangUp
            return .answered
        case .talking where self.calls[index].willBeHeld:
            self.calls[index].willBeHeld = false
            self.calls[index].state = .held
            self.calls[index].sound = nil
            self.calls[index].due = now + .random(in: 2_000...5_000, using: &random)
            return .held
        case .held:
            self.calls[index].state = .talking
            self.calls[index].sound = 4
            self.calls[index].due = max(self.calls[index].hangUp, now + 2_000)
            return .resumed
        case .talking, .ended:
            self.end(index, now: now)
            return .ended
        }
    }

    private mutating func end(_ index: Int, now: Double) {
        self.calls[index].state = .ended
        self.calls[index].ended = now
        self.calls[index].sound = nil
    }
}
