/* A Modbus slave by libmodbus: 16 coils, discrete inputs and registers, nothing of our own.
 *
 * modbus_slave rtu PORT BAUD UNIT | modbus_slave tcp PORT
 * Inputs begin as: discrete inputs 1,0,0,1, input registers 0, 100, 200 ... */
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    int rtu = argc == 5 && strcmp(argv[1], "rtu") == 0;
    if (!rtu && argc != 3)
        return 2;
    modbus_t *line = rtu ? modbus_new_rtu(argv[2], atoi(argv[3]), 'N', 8, 1)
                         : modbus_new_tcp("127.0.0.1", atoi(argv[2]));
    modbus_mapping_t *map = modbus_mapping_new(16, 16, 16, 16);
    if (line == NULL || map == NULL)
        return 3;
    map->tab_input_bits[0] = map->tab_input_bits[3] = 1;
    for (int n = 0; n < 16; n++)
        map->tab_input_registers[n] = 100 * n;
    int listening = -1;
    if (rtu) {
        modbus_set_slave(line, atoi(argv[4]));
        if (modbus_connect(line) == -1)
            return 4;
    } else {
        listening = modbus_tcp_listen(line, 4);
        if (listening == -1)
            return 5;
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        if (!rtu && modbus_tcp_accept(line, &listening) == -1)
            return 6;
        for (;;) {
            uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
            int length = modbus_receive(line, query);
            if (length > 0)
                modbus_reply(line, query, length, map);
            else if (length == -1 && !(rtu && errno != EIO))
                break;
        }
        if (rtu)
            return 0;
    }
}
