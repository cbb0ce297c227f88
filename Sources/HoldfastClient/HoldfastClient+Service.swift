import HoldfastCore
import ServiceLifecycle

extension HoldfastClient: Service {
    /// Connects, and stays connected until a graceful shutdown, which waits for the replies that are awaited, but no longer than
    /// ``ClientConfiguration/closeTimeout``, and then says goodbye.
    /// - Throws: ``HoldfastError`` with code `closed` where the gateway has closed the client for good.
    public func run() async throws {
        self.connectIfNeeded()
        let end = await withTaskCancellationHandler {
            await withGracefulShutdownHandler {
                await self.desk.untilClosed()
            } onGracefulShutdown: {
                Task { await self.close(waiting: self.configuration.closeTimeout) }
            }
        } onCancel: {
            self.close()
        }
        try end?.get()
    }
}
