import HoldfastFaults

/// Prints events without making the proxy wait for whoever reads them: a terminal that is stopped must not be a fault.
struct EventPrinter {
    /// Lines that wait. Beyond it the oldest are left out, and their number is printed.
    static let limit = 1_000

    private let entries: AsyncStream<EventLog.Entry>.Continuation
    private let printing: Task<Void, Never>

    init() {
        let (stream, entries) = AsyncStream.makeStream(
            of: EventLog.Entry.self, bufferingPolicy: .bufferingNewest(Self.limit))
        self.entries = entries
        self.printing = Task {
            var last = 0
            for await entry in stream {
                if entry.number > last + 1 { printNow("    … \(entry.number - last - 1) lines left out") }
                last = entry.number
                printNow(entry.line)
            }
        }
    }

    func print(_ entry: EventLog.Entry) {
        self.entries.yield(entry)
    }

    /// After the last line has been printed.
    func finish() async {
        self.entries.finish()
        await self.printing.value
    }
}
