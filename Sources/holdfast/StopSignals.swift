import Dispatch
import Foundation

/// SIGINT and SIGTERM, from the moment at which this is made. The second one ends the program as if nobody listened.
struct StopSignals {
    private let stops: AsyncStream<Void>
    private let sources: [any DispatchSourceSignal]

    init() {
        let (stops, stop) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        self.stops = stops
        self.sources = [SIGINT, SIGTERM].map { number in
            onSignal(number) { stop.yield() }
        }
    }

    func first() async {
        for await _ in self.stops { break }
        for source in self.sources { source.cancel() }
    }
}

/// Calls `action` instead of ending the program, once: the next signal of that number ends it as if nobody listened.
func onSignal(_ number: CInt, _ action: @escaping @Sendable () -> Void) -> any DispatchSourceSignal {
    signal(number, SIG_IGN)
    let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
    source.setEventHandler {
        signal(number, SIG_DFL)
        action()
    }
    source.resume()
    return source
}
