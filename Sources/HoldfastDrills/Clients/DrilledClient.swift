import Foundation

/// The other end of the line protocol, with the Swift client behind it: one process that can be stopped like a laptop.
public enum DrilledClient {
    /// Reads orders from standard input until `close` or the end.
    /// - Parameter say: writes one line to standard output, at once.
    public static func run(say: @escaping @Sendable (String) -> Void) async throws {
        let log = SightingLog(clock: DrillClock()) { say(LineProtocol.line($0)) }
        let client = SwiftDrillClient(log: log)
        for await line in Self.lines {
            guard let order = LineProtocol.Order(line: line) else { continue }
            switch order {
            case .connect(let url, let subscription): try await client.connect(url: url, subscription: subscription)
            case .wake: client.wake()
            case .hide: client.hide()
            case .close: return await client.close()
            }
        }
        await client.close()
    }

    /// A drill gives a handful of orders; the newest ones count.
    private static var lines: AsyncStream<String> {
        AsyncStream(bufferingPolicy: .bufferingNewest(64)) { stream in
            let thread = Thread {
                while let line = readLine() { stream.yield(line) }
                stream.finish()
            }
            thread.start()
        }
    }
}
