import HeapModule

/// What is going to happen, and the virtual time that goes with it. Things planned for the same moment happen in the order in
/// which they were planned, so that a run depends on its seed and on nothing else.
///
/// `@unchecked Sendable`: a simulation has one thread, and so has everything in it.
final class Agenda: @unchecked Sendable {
    private struct Entry: Comparable {
        let at: Int64
        let serial: UInt64
        let body: () -> Void

        static func < (left: Entry, right: Entry) -> Bool { (left.at, left.serial) < (right.at, right.serial) }
        static func == (left: Entry, right: Entry) -> Bool { left.serial == right.serial }
    }

    private var entries = Heap<Entry>()
    private var serial: UInt64 = 0
    /// In microseconds. Begins late enough for clocks that run behind.
    private(set) var now: Int64 = Agenda.start
    /// Things that have happened.
    private(set) var steps = 0

    static let start: Int64 = 1_000_000_000

    /// Seconds since the start of the run.
    var seconds: Double { Double(self.now - Self.start) / 1_000_000 }

    func plan(at time: Int64, _ body: @escaping () -> Void) {
        self.serial += 1
        self.entries.insert(Entry(at: max(time, self.now), serial: self.serial, body: body))
    }

    func plan(in seconds: Double, _ body: @escaping () -> Void) {
        self.plan(at: self.now + Int64(seconds * 1_000_000), body)
    }

    /// As ``plan(at:_:)``, for what may be called off.
    func appointment(at time: Int64, _ body: @escaping () -> Void) -> Appointment {
        let appointment = Appointment(body)
        self.plan(at: time) { appointment.keep() }
        return appointment
    }

    /// Lets the next thing happen.
    /// - Returns: `false` if there is none before `end`.
    func step(until end: Int64) -> Bool {
        guard let next = self.entries.min, next.at < end, let entry = self.entries.popMin() else {
            self.now = max(self.now, end)
            return false
        }
        self.now = entry.at
        self.steps += 1
        entry.body()
        return true
    }

    /// The run is over: nothing that is still planned keeps anything in memory.
    func clear() { self.entries = Heap() }
}

/// Something planned that may be called off.
///
/// `@unchecked Sendable`: see ``Agenda``.
final class Appointment: @unchecked Sendable {
    private var body: (() -> Void)?

    fileprivate init(_ body: @escaping () -> Void) { self.body = body }

    fileprivate func keep() {
        let body = self.body
        self.body = nil
        body?()
    }

    func cancel() { self.body = nil }
}
