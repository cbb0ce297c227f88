import Foundation

/// What the process has used, as the operating system tells.
package struct ProcessUsage {
    /// CPU in its own code.
    package let userSeconds: Double
    /// CPU in the kernel on its behalf.
    package let systemSeconds: Double

    package static var current: Self {
        var usage = rusage()
        // RUSAGE_SELF, which is imported with another type on each system.
        getrusage(0, &usage)
        func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1_000_000 }
        return Self(userSeconds: seconds(usage.ru_utime), systemSeconds: seconds(usage.ru_stime))
    }

    /// Its lines of a metrics page, which the benchmarks read.
    package var metrics: String {
        """
        # HELP process_cpu_seconds_total User and system time of the process in seconds.
        # TYPE process_cpu_seconds_total counter
        process_cpu_seconds_total \(self.userSeconds + self.systemSeconds)
        # HELP process_cpu_system_seconds_total System time alone, in seconds.
        # TYPE process_cpu_system_seconds_total counter
        process_cpu_system_seconds_total \(self.systemSeconds)

        """
    }

    /// 0 where the system does not tell.
    static var residentBytes: Int {
        guard let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8) else { return 0 }
        let pages = text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
    }
}
